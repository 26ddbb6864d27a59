import {
  admission, CHECK_EXTENSION, DEFAULT_PLANES, EXIT_UNION_AT, EXIT_UNION_SIZE, ExitDebug, ExitFailEntry, ExitHw, ExitHypercall, ExitInternalError, ExitIo, ExitIoapicEoi,
  ExitMemoryFault, ExitMemoryFaultPlanes, ExitMmio, ExitMsr, ExitSystemEvent, FdKind, KvmCpuid2, KvmCpuidEntry2, KvmDebugregs, KvmDirtyLog, KvmDtable, KvmEnableCap,
  KvmFpu, KvmGuestDebug, KvmIoapicState, KvmIrqchip, KvmIrqRouting, KvmIrqRoutingEntry, KvmIrqRoutingEntryPlanes, KvmIrqRoutingPlanes, KvmLapicState, KvmMemoryAttributes,
  KvmMpState, KvmMsi, KvmMsrEntry, KvmMsrFilterRange, KvmMsrs, KvmNestedState, KvmOneReg, KvmRegList, KvmRegs, KvmRun, KvmRunPlanes, KvmSegment, KvmSregs, KvmSregs2,
  KvmTranslation, KvmUserspaceMemoryRegion, KvmUserspaceMemoryRegion2, KvmVcpuEvents, KvmX86MsrFilter, KvmXcr, KvmXcrs, KvmXsave, LAYOUTS, RouteHvSint, RouteIrqchip,
  RouteMsi, RouteXenEvtchn, RULES,
} from '@vmplanes/abi-kvm-planes';
import { describe, expect, test } from 'vitest';

/** Size and offsets, printed by a C program from Linux 6.1 include/uapi/linux/kvm.h for x86-64; those of exits from the start of the union. What is missing there is typed by hand below. */
const KERNEL: Readonly<Record<string, readonly [size: number, at: Readonly<Record<string, number>>]>> = {
  kvm_regs: [144, { rax: 0, rbx: 8, rcx: 16, rdx: 24, rsi: 32, rdi: 40, rsp: 48, rbp: 56, r8: 64, r9: 72, r10: 80, r11: 88, r12: 96, r13: 104, r14: 112, r15: 120, rip: 128, rflags: 136 }],
  kvm_segment: [24, { base: 0, limit: 8, selector: 12, type: 14, present: 15, dpl: 16, db: 17, s: 18, l: 19, g: 20, avl: 21, unusable: 22, reservedPadding: 23 }],
  kvm_dtable: [16, { base: 0, limit: 8, reservedPadding: 10 }],
  kvm_sregs: [312, { cs: 0, ds: 24, es: 48, fs: 72, gs: 96, ss: 120, tr: 144, ldt: 168, gdt: 192, idt: 208, cr0: 224, cr2: 232, cr3: 240, cr4: 248, cr8: 256, efer: 264, apicBase: 272, interruptBitmap: 280 }],
  kvm_fpu: [416, { fpr: 0, fcw: 128, fsw: 130, ftwx: 132, reservedPad1: 133, lastOpcode: 134, lastIp: 136, lastDp: 144, xmm: 152, mxcsr: 408, reservedPad2: 412 }],
  kvm_vcpu_events: [64, { exception: 0, interrupt: 8, nmi: 12, sipiVector: 16, flags: 20, smi: 24, tripleFault: 28, reserved: 29, exceptionHasPayload: 55, exceptionPayload: 56 }],
  kvm_debugregs: [128, { db: 0, dr6: 32, dr7: 40, flags: 48, reserved: 56 }],
  kvm_xcr: [16, { xcr: 0, reserved: 4, value: 8 }],
  kvm_xcrs: [392, { nrXcrs: 0, flags: 4, xcrs: 8, reservedPadding: 264 }],
  kvm_nested_state: [128, { flags: 0, format: 2, size: 4, hdr: 8 }],
  kvm_msr_entry: [16, { index: 0, reserved: 4, data: 8 }],
  kvm_cpuid_entry2: [40, { function: 0, index: 4, flags: 8, eax: 12, ebx: 16, ecx: 20, edx: 24, reservedPadding: 28 }],
  kvm_mp_state: [4, { mpState: 0 }],
  kvm_one_reg: [16, { id: 0, addr: 8 }],
  kvm_translation: [24, { linearAddress: 0, physicalAddress: 8, valid: 16, writeable: 17, usermode: 18, reservedPad: 19 }],
  kvm_msi: [32, { addressLo: 0, addressHi: 4, data: 8, flags: 12, devid: 16, reservedPad: 20 }],
  kvm_enable_cap: [104, { cap: 0, flags: 4, args: 8, reservedPad: 40 }],
  kvm_ioapic_state: [216, { baseAddress: 0, ioregsel: 8, id: 12, irr: 16, reservedPad: 20, redirtbl: 24 }],
  kvm_irqchip: [520, { chipId: 0, reservedPad: 4, chip: 8 }],
  kvm_userspace_memory_region: [32, { slot: 0, flags: 4, guestPhysAddr: 8, memorySize: 16, userspaceAddr: 24 }],
  kvm_dirty_log: [16, { slot: 0, reservedPadding1: 4, dirtyBitmap: 8 }],
  kvm_msr_filter_range: [24, { flags: 0, nmsrs: 4, base: 8, bitmap: 16 }],
  kvm_msr_filter: [392, { flags: 0, ranges: 8 }],
  kvm_guest_debug: [72, { control: 0, reservedPad: 4, debugreg: 8 }],
  kvm_irq_routing_entry: [48, { gsi: 0, type: 4, flags: 8, reservedPad: 12, u: 16 }],
  kvm_irq_routing_msi: [16, { addressLo: 0, addressHi: 4, data: 8, devid: 12 }],
  kvm_irq_routing_irqchip: [8, { irqchip: 0, pin: 4 }],
  kvm_irq_routing_hv_sint: [8, { vcpu: 0, sint: 4 }],
  kvm_irq_routing_xen_evtchn: [12, { port: 0, vcpu: 4, priority: 8 }],
  kvm_run: [2352, { requestInterruptWindow: 0, immediateExit: 1, reservedPadding1: 2, exitReason: 8, readyForInterruptInjection: 12, ifFlag: 13, flags: 14, cr8: 16, apicBase: 24, exit: 32, kvmValidRegs: 288, kvmDirtyRegs: 296, s: 304 }],
  hw: [8, { hardwareExitReason: 0 }],
  fail_entry: [16, { hardwareEntryFailureReason: 0, cpu: 8 }],
  io: [16, { direction: 0, size: 1, port: 2, count: 4, dataOffset: 8 }],
  mmio: [24, { physAddr: 0, data: 8, len: 16, isWrite: 20 }],
  hypercall: [72, { nr: 0, args: 8, ret: 56, longmode: 64 }],
  msr: [24, { error: 0, reservedPad: 1, reason: 8, index: 12, data: 16 }],
  internal: [136, { suberror: 0, ndata: 4, data: 8 }],
  debug: [32, { exception: 0, reservedPad: 4, pc: 8, dr6: 16, dr7: 24 }],
  system_event: [136, { type: 0, ndata: 4, data: 8 }],
  eoi: [1, { vector: 0 }],
  // Linux 6.8 and later.
  kvm_userspace_memory_region2: [160, { slot: 0, flags: 4, guestPhysAddr: 8, memorySize: 16, userspaceAddr: 24, guestMemfdOffset: 32, guestMemfd: 40, reservedPad1: 44, reservedPad2: 48 }],
  kvm_memory_attributes: [32, { address: 0, size: 8, attributes: 16, flags: 24 }],
  memory_fault: [24, { flags: 0, gpa: 8, size: 16 }],
};
const OURS = {
  kvm_regs: KvmRegs, kvm_segment: KvmSegment, kvm_dtable: KvmDtable, kvm_sregs: KvmSregs, kvm_fpu: KvmFpu, kvm_vcpu_events: KvmVcpuEvents, kvm_debugregs: KvmDebugregs,
  kvm_xcr: KvmXcr, kvm_xcrs: KvmXcrs, kvm_nested_state: KvmNestedState, kvm_msr_entry: KvmMsrEntry, kvm_cpuid_entry2: KvmCpuidEntry2, kvm_mp_state: KvmMpState,
  kvm_one_reg: KvmOneReg, kvm_translation: KvmTranslation, kvm_msi: KvmMsi, kvm_enable_cap: KvmEnableCap, kvm_ioapic_state: KvmIoapicState, kvm_irqchip: KvmIrqchip,
  kvm_userspace_memory_region: KvmUserspaceMemoryRegion, kvm_dirty_log: KvmDirtyLog, kvm_msr_filter_range: KvmMsrFilterRange, kvm_msr_filter: KvmX86MsrFilter,
  kvm_guest_debug: KvmGuestDebug, kvm_irq_routing_entry: KvmIrqRoutingEntry, kvm_irq_routing_msi: RouteMsi, kvm_irq_routing_irqchip: RouteIrqchip,
  kvm_irq_routing_hv_sint: RouteHvSint, kvm_irq_routing_xen_evtchn: RouteXenEvtchn, kvm_run: KvmRun, hw: ExitHw, fail_entry: ExitFailEntry, io: ExitIo, mmio: ExitMmio,
  hypercall: ExitHypercall, msr: ExitMsr, internal: ExitInternalError, debug: ExitDebug, system_event: ExitSystemEvent, eoi: ExitIoapicEoi,
  kvm_userspace_memory_region2: KvmUserspaceMemoryRegion2, kvm_memory_attributes: KvmMemoryAttributes, memory_fault: ExitMemoryFault,
} as const;
/** Fields that mainline leaves to a hole or to the end of the union. */
const isHole = (name: string): boolean => name === 'reserved' || name === 'reservedPad';

test.each(Object.entries(OURS))('%s', (name, layout) => {
  const [size, at] = KERNEL[name]!;
  const ours = Object.fromEntries(Object.entries(layout.at as Readonly<Record<string, number>>).filter(([field]) => field in at || !isHole(field)));
  expect([layout.size, ours]).toEqual([size, at]);
});

test('the same with what planes add, lists and plain bytes', () => {
  const { interruptBitmap: _bitmap, ...common } = KvmSregs.at;
  expect([KvmSregs2.size, KvmSregs2.at]).toEqual([320, { ...common, flags: 280, pdptrs: 288 }]);
  expect([KvmRegList.size, KvmXsave.size, KvmLapicState.size, KvmMsrs.header.size, KvmMsrs.sizeOf(3), KvmCpuid2.header.size, KvmCpuid2.sizeOf(3), KvmIrqRouting.header.size, KvmIrqRouting.sizeOf(3), KvmIrqRoutingPlanes.sizeOf(1)]).toEqual([8, 4096, 1024, 8, 56, 8, 128, 8, 152, 56]);
  expect([KvmMsrs.header.at, KvmCpuid2.header.at, KvmIrqRouting.header.at]).toEqual([{ nmsrs: 0, reservedPad: 4 }, { nent: 0, reservedPadding: 4 }, { nr: 0, flags: 4 }]);
  expect([KvmIrqRoutingEntryPlanes.at, KvmIrqRoutingEntryPlanes.size]).toEqual([{ gsi: 0, type: 4, flags: 8, plane: 12, u: 16 }, 48]);
  expect([ExitMemoryFaultPlanes.size, ExitMemoryFaultPlanes.at, EXIT_UNION_AT, EXIT_UNION_SIZE]).toEqual([32, { flags: 0, gpa: 8, size: 16, plane: 24, instructionLength: 26, reserved: 27 }, 32, 256]);
  expect(KvmRunPlanes.size).toBe(KvmRun.size);
});

test('events are made of small structures', () => {
  const { fields } = KvmVcpuEvents;
  expect([fields.exception, fields.interrupt, fields.nmi, fields.smi, fields.tripleFault].map(([, layout]) => [layout.size, layout.at])).toEqual([
    [8, { injected: 0, nr: 1, hasErrorCode: 2, pending: 3, errorCode: 4 }], [4, { injected: 0, nr: 1, soft: 2, shadow: 3 }], [4, { injected: 0, pending: 1, masked: 2, reservedPad: 3 }], [4, { smm: 0, pending: 1, smmInsideNmi: 2, latchedInit: 3 }], [1, { pending: 0 }],
  ]);
});

test('which layouts go with which draft', () => {
  expect(Object.entries(LAYOUTS).map(([profile, l]) => [profile, l.run === KvmRunPlanes, l.planeEvent.size, l.gsiRouting === KvmIrqRoutingPlanes, l.memoryFault.size])).toEqual([['2024-10', true, 16, false, 24], ['2025-04', true, 80, false, 24], ['2026-06', false, 72, false, 24], ['vmplanes', true, 80, true, 32]]);
});

describe('tables of the drafts, typed by hand from the patches', () => {
  test('2024-10 names calls and numbers none: nothing is admitted', () => {
    for (const fd of Object.values(FdKind)) for (const name of ['KVM_RUN', 'KVM_GET_REGS', 'KVM_CREATE_PLANE', 'KVM_CREATE_IRQCHIP', 'KVM_GET_TSC_KHZ', 'KVM_NMI', 'KVM_CREATE_VM', undefined] as const) expect(admission('2024-10', fd, name), `${fd} ${name}`).toBe('ENOTTY');
  });
  test('numbers among the answers of KVM_CHECK_EXTENSION: system, VM, plane', () => {
    const numbers = CHECK_EXTENSION.map((r) => [r.capability, r.profile, ...[r.system, r.vm, r.plane].map((a) => (typeof a === 'number' || a === 'ENOTTY' ? a : 'rule'))].join(' '));
    expect(numbers).toEqual([
      'PLANES 2025-04 16 rule 0', 'PLANES 2026-06 1 rule ENOTTY', 'PLANES vmplanes 16 rule 0', 'PLANES_FPU 2025-04 1 rule 0', 'PLANES_FPU 2026-06 0 0 ENOTTY', 'PLANES_FPU vmplanes 1 rule 0',
      'PLANE_FPU 2025-04 0 0 0', 'PLANE_FPU 2026-06 0 0 ENOTTY', 'PLANE_FPU vmplanes 1 rule 0', 'CHECK_EXTENSION_VM 2025-04 1 1 1', 'CHECK_EXTENSION_VM 2026-06 1 1 ENOTTY', 'CHECK_EXTENSION_VM vmplanes 1 1 1',
      'SIGNAL_MSI 2025-04 1 1 1', 'SIGNAL_MSI 2026-06 1 1 ENOTTY', 'SIGNAL_MSI vmplanes 1 1 1', 'MEMORY_ATTRIBUTES 2025-04 8 rule 0', 'MEMORY_ATTRIBUTES 2026-06 8 rule ENOTTY', 'MEMORY_ATTRIBUTES vmplanes 15 rule rule',
      'other 2025-04 rule rule 0', 'other 2026-06 rule rule ENOTTY', 'other vmplanes rule rule 0',
    ]);
  });
  test('planes by default, and the attributes that they take', () => {
    expect([DEFAULT_PLANES, RULES['2024-10'], RULES['2025-04']!.planeAttributes, RULES['2026-06']!.planeAttributes, RULES.vmplanes!.planeAttributes]).toEqual([4, undefined, 0n, 0n, 7n]);
  });
});
