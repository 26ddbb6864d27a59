import { BSP_EIP, buildVmsa, coconutGuestVmsa, EFER_SVME, SECRETS_PAGE_VERSION, SecretsPage, VMPCK_BYTES, VMPCK_COUNT } from '@vmplanes/abi-sev-snp';
import { SVSM_PROTOCOL_VERSION } from '@vmplanes/abi-svsm';
import { AccessResult, HostError, PAGE_SIZE, type PlaneContext } from '@vmplanes/engine';
import { guestFeatures } from './core-calls.ts';
import { cpuidFor } from './cpuid-page.ts';
import type { SvsmProvider } from './provider.ts';
import { READ_VMSA, RWX } from './rights.ts';

/** Where in the provider's memory the first VMSA of the guest lies: any page of it will do. */
const GUEST_VMSA_OFFSET = 0xa4_0000;
/** AP creation: the VMSA is taken up when its VMPL is run. @spec GHCB 4.1.9 */
const CREATE_ON_INIT = 0;

/**
 * What a provider does before its guest runs for the first time: gives it the memory of its firmware, its copy of the secrets page, a calling area and the first
 * VMSA, and tells the host of that. @spec SVSM 1.00, section 4; coconut-svsm kernel/src/svsm.rs, kernel/src/platform/snp_fw.rs
 */
export function launchGuest(p: SvsmProvider, context: PlaneContext): void {
  const { options, chapters, machine } = p.snp;
  const { memory } = machine;
  const base = Number(options.svsmBase);
  const size = Number(options.svsmSize);
  const vmsa = base + Math.min(GUEST_VMSA_OFFSET, size - PAGE_SIZE);
  const area = Number(options.callingArea);
  const first = Number(options.firmwareBase);
  const end = first + Number(options.firmwareSize);
  for (const [what, gpa] of [['svsmBase and svsmSize', vmsa], ['firmwareBase', first], ['firmwareSize', end - PAGE_SIZE]] as const) {
    if (memory.slots.find(gpa / PAGE_SIZE) === null) throw new HostError('BadConfig', `sev-snp-vmpl: ${what} name memory at 0x${gpa.toString(16)}, which this guest has not (give it more memory, or other addresses)`);
  }
  for (let gpa = first; gpa < end; gpa += PAGE_SIZE) chapters.rmp.launch(gpa / PAGE_SIZE, permissions(options.guestVmpl, RWX), false);
  const put = (gpa: number, bytes: Uint8Array): void => {
    if (memory.access.write(memory.subjects[0]!.host, gpa, bytes, 0, bytes.length) !== AccessResult.Ok) throw new HostError('NoMemory', `sev-snp-vmpl: no memory at 0x${gpa.toString(16)}`);
  };
  put(Number(options.secretsPage), secretsFor(p));
  put(Number(options.cpuidPage), cpuidFor(p.snp, context));

  chapters.rmp.launch(vmsa / PAGE_SIZE, permissions(options.guestVmpl, READ_VMSA), true);
  const features = BigInt(chapters.features.machineLo) | (BigInt(chapters.features.machineHi) << 32n);
  const sevFeatures = guestFeatures(features);
  put(vmsa, buildVmsa({ ...coconutGuestVmsa({ eip: BSP_EIP, vmpl: options.guestVmpl, sevFeatures }), efer: BigInt(EFER_SVME) }));
  p.registry.add({ vmsa, area, apicId: p.snp.arch.apicOf(context).initialId, isMade: false });
  const cpu = p.cpuOf(context.vp.index);
  cpu.nextVmsa = vmsa;
  cpu.nextArea = area;
  chapters.switching.create(context.vp, options.guestVmpl);
  const refused = chapters.aps.create(chapters.switching.planeOf(context), (options.guestVmpl << 16) | CREATE_ON_INIT, p.snp.arch.apicOf(context).initialId, vmsa, sevFeatures);
  if (refused !== 0) throw new HostError('Internal', `sev-snp-vmpl: the first VMSA of the guest was refused with reason ${refused}`);
}

const permissions = (vmpl: number, mask: number): [number, number, number] => [1, 2, 3].map((v) => (v === vmpl ? mask : 0)) as [number, number, number];

/** The guest's own copy: without the message keys of more privileged VMPLs, with the fields of the SVSM. @spec SVSM 1.00, section 4; SNP ABI, secrets page */
function secretsFor(p: SvsmProvider): Uint8Array {
  const { options, chapters, arch } = p.snp;
  const page = new Uint8Array(PAGE_SIZE);
  const view = new DataView(page.buffer);
  view.setUint32(SecretsPage.at.version, SECRETS_PAGE_VERSION, true);
  view.setUint32(SecretsPage.at.fms, arch.registers.features.signature, true);
  for (let vmpl = options.guestVmpl; vmpl < VMPCK_COUNT; vmpl++) page.set(chapters.requests.keys[vmpl]!, SecretsPage.at.vmpck0 + vmpl * VMPCK_BYTES);
  view.setBigUint64(SecretsPage.at.svsmBase, BigInt(options.svsmBase), true);
  view.setBigUint64(SecretsPage.at.svsmSize, BigInt(options.svsmSize), true);
  view.setBigUint64(SecretsPage.at.svsmCaa, BigInt(options.callingArea), true);
  view.setUint32(SecretsPage.at.svsmMaxVersion, SVSM_PROTOCOL_VERSION, true);
  page[SecretsPage.at.svsmGuestVmpl] = options.guestVmpl;
  return page;
}
