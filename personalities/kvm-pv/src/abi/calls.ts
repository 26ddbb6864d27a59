const spec = 'Linux Documentation/virt/kvm/x86/hypercalls.rst';

/** Hypercall numbers, in RAX. @spec Linux include/uapi/linux/kvm_para.h */
export const Call = {
  VapicPollIrq: 1,
  MmuOp: 2,
  Features: 3,
  PpcMapMagicPage: 4,
  KickCpu: 5,
  MipsGetClockFreq: 6,
  MipsExitVm: 7,
  MipsConsoleOutput: 8,
  ClockPairing: 9,
  SendIpi: 10,
  SchedYield: 11,
  MapGpaRange: 12,
} as const;
export type Call = (typeof Call)[keyof typeof Call];

/** Statuses, returned in RAX as negative numbers. @spec Linux include/uapi/linux/kvm_para.h */
export const Status = { Ok: 0, Eperm: -1, Einval: -22, E2big: -7, Efault: -14, Eopnotsupp: -95, Enosys: -1000 } as const;

/** Every call that the interface numbers, in order; `why` says why one is not served and answers -KVM_ENOSYS. */
export const calls = [
  { nr: Call.VapicPollIrq, name: 'KVM_HC_VAPIC_POLL_IRQ', spec: `${spec} KVM_HC_VAPIC_POLL_IRQ` },
  { nr: Call.MmuOp, name: 'KVM_HC_MMU_OP', spec: `${spec} KVM_HC_MMU_OP`, why: 'deprecated' },
  { nr: Call.Features, name: 'KVM_HC_FEATURES', spec: `${spec} KVM_HC_FEATURES`, why: 'PowerPC only; x86 has the feature leaf' },
  { nr: Call.PpcMapMagicPage, name: 'KVM_HC_PPC_MAP_MAGIC_PAGE', spec: `${spec} KVM_HC_PPC_MAP_MAGIC_PAGE`, why: 'PowerPC only' },
  { nr: Call.KickCpu, name: 'KVM_HC_KICK_CPU', spec: `${spec} KVM_HC_KICK_CPU` },
  { nr: Call.MipsGetClockFreq, name: 'KVM_HC_MIPS_GET_CLOCK_FREQ', spec: 'Linux include/uapi/linux/kvm_para.h', why: 'MIPS only' },
  { nr: Call.MipsExitVm, name: 'KVM_HC_MIPS_EXIT_VM', spec: 'Linux include/uapi/linux/kvm_para.h', why: 'MIPS only' },
  { nr: Call.MipsConsoleOutput, name: 'KVM_HC_MIPS_CONSOLE_OUTPUT', spec: 'Linux include/uapi/linux/kvm_para.h', why: 'MIPS only' },
  { nr: Call.ClockPairing, name: 'KVM_HC_CLOCK_PAIRING', spec: `${spec} KVM_HC_CLOCK_PAIRING` },
  { nr: Call.SendIpi, name: 'KVM_HC_SEND_IPI', spec: `${spec} KVM_HC_SEND_IPI` },
  { nr: Call.SchedYield, name: 'KVM_HC_SCHED_YIELD', spec: `${spec} KVM_HC_SCHED_YIELD`, why: 'slices are part of virtual time, there is nothing to yield' },
  { nr: Call.MapGpaRange, name: 'KVM_HC_MAP_GPA_RANGE', spec: `${spec} KVM_HC_MAP_GPA_RANGE`, why: 'belongs to guests with encrypted memory' },
] as const satisfies readonly { readonly nr: Call; readonly name: string; readonly spec: string; readonly why?: string }[];
