import { array, bytes, struct, u16, u32, u64, u8 } from '@vmplanes/binary';

/** Offset of the exit union in kvm_run, and its bytes. */
export const EXIT_UNION_AT = 32;
export const EXIT_UNION_SIZE = 256;

/** The shared page as mainline and the 2026 series have it: no plane fields. @spec Linux include/uapi/linux/kvm.h */
export const KvmRun = struct('kvm_run', 'Linux include/uapi/linux/kvm.h', 2352, {
  requestInterruptWindow: [0, u8, 'in'],
  immediateExit: [1, u8, 'in: return EINTR before the guest runs'],
  reservedPadding1: [2, bytes(6)],
  exitReason: [8, u32, 'out'],
  readyForInterruptInjection: [12, u8, 'out'],
  ifFlag: [13, u8, 'out: RFLAGS.IF'],
  flags: [14, u16, 'out'],
  cr8: [16, u64, 'in/out'],
  apicBase: [24, u64, 'out'],
  exit: [32, bytes(EXIT_UNION_SIZE), 'payload of the exit reason'],
  kvmValidRegs: [288, u64, 'in'],
  kvmDirtyRegs: [296, u64, 'in'],
  s: [304, bytes(2048), 'synchronised registers'],
});

/**
 * The shared page with the plane fields of 2024-10 and 2025-04; the hole at 3 is ours to name.
 * @spec LKML 2025-04-01 RFC KVM: VM planes 02/29
 */
export const KvmRunPlanes = struct('kvm_run', 'LKML 2025-04-01 RFC KVM: VM planes 02/29', 2352, {
  requestInterruptWindow: [0, u8, 'in'],
  immediateExit: [1, u8, 'in: return EINTR before the guest runs; holds for whichever plane runs'],
  plane: [2, u8, 'in/out: plane to run, ignored unless another plane exists'],
  reservedHole: [3, u8],
  suspendedPlanes: [4, u16, 'in/out: planes suspended in favour of another; KVM does not use it'],
  reqExitPlanes: [6, u16, 'in: planes whose pending interrupts cause an exit; the bit of `plane` is ignored'],
  exitReason: [8, u32, 'out'],
  readyForInterruptInjection: [12, u8, 'out: of the plane that ran'],
  ifFlag: [13, u8, 'out: of the plane that ran'],
  flags: [14, u16, 'out'],
  cr8: [16, u64, 'in/out: of the plane that runs'],
  apicBase: [24, u64, 'out: of the plane that ran'],
  exit: [32, bytes(EXIT_UNION_SIZE), 'payload of the exit reason'],
  kvmValidRegs: [288, u64, 'in'],
  kvmDirtyRegs: [296, u64, 'in'],
  s: [304, bytes(2048), 'synchronised registers of the plane that runs'],
});

/** Payload of the plane event in the 2024 text. @spec LKML 2024-10-23 Documentation: kvm: introduce VM plane concept 5/5 */
export const PlaneEvent2024 = struct('plane', 'LKML 2024-10-23 Documentation: kvm: introduce VM plane concept 5/5', 16, {
  pendingEventPlanes: [0, u16, 'planes with pending events'],
  cause: [2, u8],
  target: [3, u8, 'a plane id'],
  flags: [4, u32],
  extra: [8, u64],
});

/** Payload of the plane event of 2025-04, in its 64-bit layout. @spec LKML 2025-04-01 RFC KVM: VM planes 02/29 */
export const PlaneEvent2025 = struct('plane_event', 'LKML 2025-04-01 RFC KVM: VM planes 02/29', 80, {
  cause: [0, u16],
  pendingEventPlanes: [2, u16, 'snapshot of the pending mask'],
  target: [4, u16, 'a bitmap: pending planes that were asked for'],
  reservedPadding: [6, u16],
  flags: [8, u32],
  reservedHole: [12, u32],
  extra: [16, array(u64, 8)],
});

/** Payload of the plane event of 2026-06. @spec LKML 2026-06-08 KVM Planes + SEV-SNP Support "Add KVM_EXIT_PLANE_EVENT" */
export const PlaneEvent2026 = struct('plane_event', 'LKML 2026-06-08 KVM Planes + SEV-SNP Support "Add KVM_EXIT_PLANE_EVENT"', 72, {
  cause: [0, u32],
  plane: [4, u32],
  extra: [8, array(u64, 8), 'for CREATE_VCPU the first word is the APIC id'],
});
