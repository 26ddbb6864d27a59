import { buildVmsa, Ghcb, GhcbMsr, ghcbValidBit, linuxApVmsa } from '@vmplanes/abi-sev-snp';
import { createScope } from '@vmplanes/di';
import { type CpuExit, HostError, installEngine, type Machine, PAGE_SIZE, Side, subject, SubjectKind, type Vp } from '@vmplanes/engine';
import { defaultOptions, personality, SevSnpVmpl } from '@vmplanes/personality-sev-snp-vmpl';
import { CallKind, X86, X86Arch, X86ExitRecords } from '@vmplanes/x86';
import { sample } from './measure.ts';
import { CallingCpu } from './rigs.ts';
import type { BenchRow } from './rows.ts';

const PRIVATE_PAGES = 0x600;
const VMSA = 0x101;
/** First shared page: the GHCB. */
const GHCB = PRIVATE_PAGES * PAGE_SIZE;
/** First page of those that PVALIDATE changes. */
const VALIDATED = 0x200;

/** A guest whose one VMPL runs from a VMSA in guest memory, with a registered GHCB. */
export const snpRig = (): { readonly machine: Machine; readonly vp: Vp; readonly snp: SevSnpVmpl; readonly arch: X86Arch } => {
  const arch = new X86Arch({ cpuModel: 'epyc-like' });
  const machine = installEngine(createScope(), { arch, policy: 'lowest-runnable', rule: 'deliverable', options: { maxVps: 1, maxPlanes: 4, memoryBytes: (PRIVATE_PAGES + 64) * PAGE_SIZE } });
  machine.setMeaning(personality.meaning!({})!);
  const snp = new SevSnpVmpl(machine, arch, defaultOptions);
  machine.addPersonality(snp);
  machine.memory.addSlot({ id: 0, gpa: 0, size: (PRIVATE_PAGES + 16) * PAGE_SIZE });
  const { rmp, switching, features } = snp.chapters;
  for (let gpn = 0; gpn < PRIVATE_PAGES; gpn++) rmp.launch(gpn, [0xf, 0xf, 0xf], gpn === VMSA);
  const vmsa = buildVmsa({ ...linuxApVmsa({ vmpl: 0, sevFeatures: BigInt(features.machineLo >>> 0), start: 0x1000, mce: false }), rip: 0x1000n });
  machine.memory.access.write(subject(SubjectKind.Host, 0, Side.Private), VMSA * PAGE_SIZE, vmsa, 0, PAGE_SIZE);
  const vp = machine.createVp();
  const plane = switching.planeOf(vp.context);
  plane.vmsa = VMSA * PAGE_SIZE;
  plane.registeredGhcb = GHCB;
  switching.start(plane);
  return { machine, vp, snp, arch };
};

/** A guest that makes one request over and over, each time as a guest does: it fills the page, writes the MSR, exits. */
class RequestingCpu extends CallingCpu {
  readonly #exits = new X86ExitRecords();
  /** @param fields - offset in the page and value, as 32-bit words. @param msr - the value of the MSR. */
  constructor(
    readonly rig: Pick<ReturnType<typeof snpRig>, 'machine' | 'snp'>,
    readonly fields: readonly (readonly [at: number, value: number])[],
    readonly msr: number,
  ) {
    super();
    this.#exits.call.key = CallKind.Vmgexit;
  }
  override run(vp: Vp): CpuExit {
    const { machine, snp } = this.rig;
    const { arena, memory } = machine;
    const { access } = memory;
    if (this.fields.length > 0) {
      // A store through a cached translation, as an instruction makes it.
      access.fill(shared, GHCB / PAGE_SIZE, 3);
      const word = access.fillByte >>> 2;
      for (let i = 0; i < this.fields.length; i++) arena.u32[word + (this.fields[i]![0] >>> 2)] = this.fields[i]![1];
    }
    const plane = snp.chapters.switching.planeOf(vp.context);
    plane.ghcbMsrLo = this.msr;
    plane.ghcbMsrHi = 0;
    super.run(vp);
    return this.#exits.call;
  }
}
const shared = subject(SubjectKind.Cpu, 0, Side.Shared, false);

const bit = (...names: readonly (keyof typeof ghcbValidBit)[]): readonly (readonly [number, number])[] =>
  [0, 1, 2, 3].map((w) => [Ghcb.at.validBitmap + 4 * w, names.filter((n) => ghcbValidBit[n] >>> 5 === w).reduce((mask, n) => (mask | (1 << (ghcbValidBit[n] & 31))) >>> 0, 0)] as const);

/** A guest that asks for the features of the hypervisor by MSR. */
export const msrGuest = () => {
  const rig = snpRig();
  rig.machine.setCpu(rig.vp, new RequestingCpu(rig, [], GhcbMsr.FeaturesRequest.code));
  return rig;
};
/** A guest that asks for a CPUID leaf through its page. */
export const naeGuest = () => {
  const rig = snpRig();
  const { swExitCode, swExitInfo1, swExitInfo2, rax, rcx } = Ghcb.at;
  rig.machine.setCpu(rig.vp, new RequestingCpu(rig, [[swExitCode, 0x72], [swExitCode + 4, 0], [swExitInfo1, 0], [swExitInfo2, 0], [rax, 1], [rcx, 0], ...bit('swExitCode', 'swExitInfo1', 'swExitInfo2', 'rax', 'rcx')], GHCB));
  return rig;
};

const time = ({ machine, vp }: ReturnType<typeof snpRig>): number => {
  const result = sample(20_000, (n) => {
    vp.sliceEnd = vp.retired + n;
    machine.runVp(vp);
  });
  if (vp.exit !== null) throw new HostError('Internal', `bench: the guest left with ${vp.exit.kind}`);
  return result;
};

/** Validates 512 pages and takes it back, in turns. */
const pvalidate = (): number => {
  const { machine, vp, arch } = snpRig();
  const row = arch.instruction('pvalidate');
  if (row === null) throw new HostError('Internal', 'bench: no PVALIDATE');
  const { u32 } = machine.arena;
  const word = vp.context.base >>> 2;
  u32[word + X86.cr0 / 4] = 0x11;
  u32[word + X86.rcx / 4] = 0;
  let validate = 0;
  const result = sample(40, (n) => {
    for (let i = 0; i < n; i++) {
      for (let page = 0; page < 512; page++) {
        u32[word + X86.rax / 4] = (VALIDATED + page) * PAGE_SIZE;
        u32[word + X86.rdx / 4] = validate;
        row.run(vp.context);
      }
      validate = 1 - validate;
    }
  });
  const isRight = u32[word + X86.rax / 4] === 0 && (u32[word + X86.rflags / 4]! & 1) === 0 && u32[word + X86['exception.state'] / 4] === 0;
  if (!isRight) throw new HostError('Internal', 'bench: PVALIDATE was refused');
  return result;
};

/** The rows of SEV-SNP. */
export const snpRows: readonly BenchRow[] = [
  { id: 'snp.vmgexit.msr', about: 'a VMGEXIT with a request in the GHCB MSR: hypervisor features; the VMSA is stored and loaded', run: () => time(msrGuest()) },
  { id: 'snp.vmgexit.nae', about: 'a VMGEXIT with an event in the GHCB: CPUID; the VMSA is stored and loaded', run: () => time(naeGuest()) },
  { id: 'snp.pvalidate.512', about: 'PVALIDATE of 512 pages of 4 KiB', run: pvalidate },
];
