/** Calls of the example interface, made with VMCALL: number in RAX, arguments in RBX, RCX, RDX; the status comes back in RAX. */
export const Call = {
  /** Enters the plane above. */
  CallNext: 1,
  /** Goes back to the plane below. */
  Return: 2,
  /** Sets what plane RDX, below the caller, may do with the page at address RBX: bit 0 read, 1 write, 2 execute, in RCX. */
  Protect: 3,
  /** Sends vector RCX to plane RDX, the caller's or one below it, of processor RBX. */
  SendIpi: 4,
  /** Gives the caller's plane in RBX. */
  WhoAmI: 5,
} as const;

/** Statuses. */
export const Status = { Ok: 0, BadCall: 1, BadPlane: 2, Denied: 3, BadAddress: 4, BadVector: 5 } as const;

/** MSRs of the example interface, one of each per plane. */
export const Msr = {
  /** Calls this plane made. Read only. */
  CallCount: 0x4578_0000,
  /** Address of the access below this plane that was refused last. */
  Refused: 0x4578_0001,
} as const;

/** The CPUID leaf: EAX planes of this machine, EBX ECX EDX "ExamplePlane". */
export const LEAF = 0x4000_0200;
export const SIGNATURE = ['Exam', 'pleP', 'lane'] as const;
