import { ALGO_ECDSA_P384_SHA384, ECC_NUMBER_BYTES, FirmwareStatus, firmwareStatusMeaning, firmwareStatusName, IdAuth, IdBlock, LAUNCH_VMSA_GPA, LaunchPageType, Vmsa } from '@vmplanes/abi-sev-snp';
import { ALL_PLANES, HostError, type LaunchIdentity, type LaunchPage, type LaunchPageKind, type LaunchSignature, type LaunchSink, type LaunchVp, PAGE_SIZE, Side, subject, SubjectKind } from '@vmplanes/engine';
import type { SnpContext } from '../ports.ts';
import { resetVmsa } from '../reset-start.ts';
import type { SecurityProcessor } from '../psp/security-processor.ts';
import { fillCpuidTable } from './cpuid-table.ts';
import type { LaunchPermissions } from './digest.ts';
import type { Identity } from './id-block.ts';
import { LaunchCommands, type LaunchMemory } from './launch-commands.ts';

const types: Readonly<Record<LaunchPageKind, LaunchPageType>> = {
  normal: LaunchPageType.Normal, zero: LaunchPageType.Zero, unmeasured: LaunchPageType.Unmeasured, secrets: LaunchPageType.Secrets, cpuid: LaunchPageType.Cpuid, 'cpuid-extended': LaunchPageType.Cpuid,
};
/** The host writes both sides of a page whatever it is now. */
const TO_PRIVATE = subject(SubjectKind.Host, ALL_PLANES, Side.Private);
const TO_SHARED = subject(SubjectKind.Host, ALL_PLANES, Side.Shared);

const refuse = (what: string, why: string): never => {
  throw new HostError('BadConfig', `launch: ${what}: ${why}`);
};
const hex = (n: number): string => `0x${n.toString(16)}`;

/** Pages of the guest as the launch commands place them. */
class GuestPages implements LaunchMemory {
  constructor(readonly snp: SnpContext) {}

  stateOf(gpn: number): 'missing' | 'shared' | 'private' {
    const { machine, chapters } = this.snp;
    if (machine.memory.slots.find(gpn) === null) return 'missing';
    return chapters.rmp.entry(gpn).assigned ? 'private' : 'shared';
  }
  place(gpn: number, page: Uint8Array, [vmpl1, vmpl2, vmpl3]: LaunchPermissions, isVmsa: boolean): void {
    const { machine, chapters } = this.snp;
    chapters.rmp.launch(gpn, [vmpl1, vmpl2, vmpl3], isVmsa);
    machine.memory.access.write(TO_PRIVATE, gpn * PAGE_SIZE, page, 0, PAGE_SIZE);
  }
}

/**
 * Places a boot image in a SEV-SNP guest: each directive becomes a launch command of the firmware, in the order of the image, which is the order of the measurement. Every
 * error is one of the image or of the machine it is meant for.
 */
export class LaunchDirectives implements LaunchSink {
  readonly platforms = ['sev-snp'];
  readonly #snp: SnpContext;
  readonly #firmware: SecurityProcessor;
  readonly #commands: LaunchCommands;
  #identity: Identity | null = null;
  #hasPolicy = false;

  constructor(snp: SnpContext, firmware: SecurityProcessor) {
    this.#snp = snp;
    this.#firmware = firmware;
    this.#commands = new LaunchCommands(firmware, new GuestPages(snp));
  }

  #expect(what: string, status: FirmwareStatus): void {
    if (status !== FirmwareStatus.Success) refuse(what, `${firmwareStatusName(status)}: ${firmwareStatusMeaning(status)}`);
  }
  /** Images need not give a policy. */
  #start(): void {
    if (!this.#hasPolicy) this.policy(this.#firmware.settings.policy);
  }

  policy(policy: bigint): void {
    this.#hasPolicy = true;
    this.#expect(`policy 0x${policy.toString(16)}`, this.#commands.start({ policy }));
  }

  page({ gpa, data, type, shared }: LaunchPage): void {
    this.#start();
    const what = `${type} page at ${hex(gpa)}`;
    if (shared) return this.#share(what, gpa, data);
    const copy = data.slice();
    if (types[type] === LaunchPageType.Cpuid) fillCpuidTable(copy, this.#firmware.cpuid);
    const { status, pages } = this.#commands.update({ gpa, data: copy, type: types[type] });
    this.#expect(pages === 0 ? what : `${what}, page ${pages}`, status);
  }

  /** A page that the host keeps seeing is neither measured nor the guest's. */
  #share(what: string, gpa: number, data: Uint8Array): void {
    const { memory } = this.#snp.machine;
    if (memory.access.write(TO_SHARED, gpa, data, 0, data.length) !== 0) refuse(what, 'there is no shared memory of the guest there');
  }

  vp({ vp, gpa, state }: LaunchVp): void {
    this.#start();
    const what = `first state of VP ${vp}`;
    if (state.kind !== 'page' && state.kind !== 'reset') return refuse(what, 'this guest starts from VMSA pages, the image gives registers');
    const page = state.kind === 'page' ? state.page : resetVmsa(this.#snp, state.address);
    const { machine, chapters } = this.#snp;
    if (vp >= machine.vps.length) return refuse(what, `the machine has ${machine.vps.length} VPs`);
    const at = gpa < 0 ? LAUNCH_VMSA_GPA : gpa;
    this.#expect(what, this.#commands.updateVmsa(at, page));
    const vmpl = page[Vmsa.at.vmpl]!;
    if (vmpl >= machine.options.maxPlanes) return refuse(what, `VMPL ${vmpl} of a machine with ${machine.options.maxPlanes} planes`);
    const plane = chapters.switching.create(machine.vp(vp), vmpl);
    if (machine.memory.slots.find(at / PAGE_SIZE) === null) chapters.vmsas.launch(plane, page);
    else plane.vmsa = at;
    // As after a reset, the others wait for their start signal.
    if (state.kind === 'page' || vp === 0) chapters.switching.start(plane);
  }

  identity(identity: LaunchIdentity): void {
    this.#start();
    this.#identity = identityOf(identity, this.#firmware.guest.policy);
  }

  finish(): void {
    this.#start();
    this.#expect('finish', this.#commands.finish({ identity: this.#identity, hostData: this.#firmware.settings.hostData }));
  }
}

const number = (bytes: Uint8Array): Uint8Array => {
  const out = new Uint8Array(ECC_NUMBER_BYTES);
  out.set(bytes.subarray(0, ECC_NUMBER_BYTES));
  return out;
};
const signatureOf = ({ r, s }: LaunchSignature): { readonly r: Uint8Array; readonly s: Uint8Array } => ({ r: number(r), s: number(s) });
const keyOf = ({ curve, x, y }: LaunchSignature): { readonly curve: number; readonly qx: Uint8Array; readonly qy: Uint8Array } => ({ curve, qx: number(x), qy: number(y) });
const NOBODY: LaunchSignature = { algorithm: ALGO_ECDSA_P384_SHA384, r: new Uint8Array(0), s: new Uint8Array(0), curve: 0, x: new Uint8Array(0), y: new Uint8Array(0) };

/** The structures of the firmware; images store their fields one by one and the policy elsewhere. */
function identityOf({ version, digest, familyId, imageId, svn, key, author }: LaunchIdentity, policy: bigint): Identity {
  const block = new Uint8Array(IdBlock.size);
  IdBlock.write(new DataView(block.buffer), 0, { launchDigest: digest, familyId, imageId, version, guestSvn: svn, policy });
  const by = author ?? NOBODY;
  const auth = new Uint8Array(IdAuth.size);
  IdAuth.write(new DataView(auth.buffer), 0, { idKeyAlgo: key.algorithm, authorKeyAlgo: by.algorithm, idBlockSignature: signatureOf(key), idKey: keyOf(key), idKeySignature: signatureOf(by), authorKey: keyOf(by) });
  return { block, auth, hasAuthorKey: author !== null };
}
