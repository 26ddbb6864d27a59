export { ApicFabric } from './apic-fabric.ts';
export type { InstructionRow } from './instructions.ts';
export type { BusLockPayload, DebugPayload, InterruptWindowPayload, IoPayload, MmioPayload, MsrPayload, X86Payload } from './payloads.ts';
export type { MemorySides } from './sides.ts';
export { type MsrExits, SystemRegisters } from './system-registers.ts';
export { PlaneWalker } from './walks.ts';
export { X86Arch } from './x86-arch.ts';
export { completeX86Config, type X86Config } from './x86-config.ts';
export { encodeMessage, type EventDoor, type ExternalInterrupts, X86Events } from './x86-events.ts';
