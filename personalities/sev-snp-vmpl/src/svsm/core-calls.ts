import { SevFeature } from '@vmplanes/abi-sev-snp';
import { SVSM_CALLING_AREA_HEAD, SVSM_PROTOCOL_VERSION, SvsmProtocolQuery, SvsmProtocolVersions, SvsmResult } from '@vmplanes/abi-svsm';
import { Activity, PAGE_SIZE, Schedule } from '@vmplanes/engine';
import { GuestPages, PageState } from './guest-pages.ts';
import type { SvsmHandler } from './handler.ts';
import { READ_VMSA, RWX } from './rights.ts';
import { EFER_SVME, VmsaField } from './vmsa-fields.ts';

const { Success, InvalidAddress, InvalidParameter, InvalidRequest } = SvsmResult;

/** SVSM_CORE_REMAP_CA: another calling area from the next call on. @spec SVSM 1.00, SVSM_CORE_REMAP_CA; coconut-svsm kernel/src/protocols/core.rs */
export const remapCa: SvsmHandler = (p, call) => {
  if ((call.rcx & 0xfffn) !== 0n) return InvalidParameter;
  const area = GuestPages.address(call.rcx);
  const isCurrent = area === call.cpu.area && area >= 0;
  // What is registered is no guest memory: without the exception for the area in use, naming it again is an error.
  if (isCurrent && !p.deviates('remapCurrent')) return p.pages.clearHead(area) ? Success : InvalidAddress;
  const state = p.pages.stateOf(area, SVSM_CALLING_AREA_HEAD);
  if (state === PageState.Refused) return InvalidAddress;
  if (state === PageState.Invalid) return p.deviates('uncheckedPages') ? p.panic(call, 'the new calling area cannot be reached') : InvalidAddress;
  p.preempt('svsm:area-tested', call.vp);
  if (!p.pages.clearHead(area)) return InvalidAddress;
  p.payEoi(call.cpu, call.guest);
  // Another processor may have taken the page since the test.
  if (p.registry.overlaps(area, area + SVSM_CALLING_AREA_HEAD)) return InvalidAddress;
  p.registry.move(call.cpu.area, area);
  call.cpu.area = area;
  return Success;
};

/** SVSM_CORE_CREATE_VCPU: makes a page of the guest a VMSA. @spec SVSM 1.00, SVSM_CORE_CREATE_VCPU; coconut-svsm kernel/src/protocols/core.rs */
export const createVcpu: SvsmHandler = (p, call) => {
  const { guestVmpl } = p.snp.options;
  if (((call.rcx | call.rdx) & 0xfffn) !== 0n) return InvalidAddress;
  const vmsa = GuestPages.address(call.rcx);
  const area = GuestPages.address(call.rdx);
  if (vmsa === area) return InvalidAddress;
  const states = [p.pages.stateOf(vmsa, PAGE_SIZE), p.pages.stateOf(area, SVSM_CALLING_AREA_HEAD)];
  if (states.includes(PageState.Refused) || !p.pages.isGuestMemory(area, PAGE_SIZE)) return InvalidAddress;
  const target = p.vpOf(Number(call.r8 & 0xffff_ffffn));
  if (target < 0) return InvalidParameter;
  if (states.includes(PageState.Invalid)) return p.deviates('uncheckedPages') ? p.panic(call, 'the VMSA page cannot be reached') : InvalidAddress;

  const gpn = vmsa / PAGE_SIZE;
  // The guest loses the page first: what is tested below cannot change any more.
  const revoked = p.revoke(gpn, false);
  if (revoked !== 0) return revoked;
  p.preempt('svsm:vmsa-revoked', call.vp);
  if (!p.pages.takeVmsa(vmsa)) return InvalidAddress;
  const { vmsas } = p.snp.chapters;
  const isFit =
    ((vmsas.read(vmsa, VmsaField.VmplWord) >> 16n) & 0xffn) === BigInt(guestVmpl) &&
    (vmsas.read(vmsa, VmsaField.Efer) & EFER_SVME) !== 0n &&
    vmsas.read(vmsa, VmsaField.SevFeatures) === vmsas.read(call.cpu.vmsa, VmsaField.SevFeatures);
  const given = isFit ? p.adjust(gpn, false, guestVmpl, READ_VMSA, true) : InvalidParameter;
  if (given !== 0) {
    p.adjust(gpn, false, guestVmpl, RWX, false);
    return given;
  }
  p.registry.add({ vmsa, area, apicId: Number(call.r8 & 0xffff_ffffn), isMade: true });
  const cpu = p.cpuOf(target);
  cpu.nextVmsa = vmsa;
  cpu.nextArea = area;
  return Success;
};

/** SVSM_CORE_DELETE_VCPU: gives a VMSA page back to the guest. @spec SVSM 1.00, SVSM_CORE_DELETE_VCPU; coconut-svsm kernel/src/protocols/core.rs */
export const deleteVcpu: SvsmHandler = (p, call) => {
  const vmsa = (call.rcx & 0xfffn) === 0n ? GuestPages.address(call.rcx) : -1;
  const row = p.registry.find(vmsa);
  if (!row?.isMade) return InvalidParameter;
  const { guestVmpl } = p.snp.options;
  const { switching, vmsas } = p.snp.chapters;
  // The store to a VMSA that is executing does not complete until its processor has left it.
  for (const vp of p.snp.machine.vps) {
    const plane = vp === call.vp ? null : switching.plane(vp, guestVmpl);
    if (plane?.vmsa === vmsa && plane.context.schedule === Schedule.Runnable && plane.context.activity === Activity.Running) return p.later(call);
  }
  vmsas.write(vmsa, VmsaField.Efer, vmsas.read(vmsa, VmsaField.Efer) & ~EFER_SVME);
  if (p.adjust(vmsa / PAGE_SIZE, false, guestVmpl, RWX, false) !== 0) return InvalidAddress;
  p.registry.remove(vmsa);
  p.forget(vmsa);
  return Success;
};

/** SVSM_CORE_QUERY_PROTOCOL. @spec SVSM 1.00, SVSM_CORE_QUERY_PROTOCOL */
export const queryProtocol: SvsmHandler = (p, call) => {
  const { protocol, version } = SvsmProtocolQuery.unpack(call.rcx);
  const isOffered = version === SVSM_PROTOCOL_VERSION && p.offers(protocol, call.cpu);
  call.rcx = isOffered ? SvsmProtocolVersions.pack({ min: SVSM_PROTOCOL_VERSION, max: SVSM_PROTOCOL_VERSION }) : 0n;
  return Success;
};

/** SVSM_CORE_CONFIGURE_VTOM: a query says that it is not supported. @spec SVSM 1.00, SVSM_CORE_CONFIGURE_VTOM */
export const configureVtom: SvsmHandler = (_p, call) => {
  if ((call.rcx & 1n) === 0n) return InvalidRequest;
  call.rcx = 0n;
  return Success;
};

/** Features of the guest's first VMSA: those of VMPL0 without restricted injection and debug swap. @spec coconut-svsm kernel/src/sev/vmsa.rs */
export const guestFeatures = (features: bigint): bigint => features & ~((1n << BigInt(SevFeature.RestrictedInjection)) | (1n << BigInt(SevFeature.DebugSwap)));
