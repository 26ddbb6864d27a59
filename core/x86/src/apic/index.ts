export { ApicBase, ApicMode, APIC_DEFAULT_BASE, isLegalApicBase, modeOf, x2apicLogicalId } from './apic-base.ts';
export { APIC_IMAGE_BYTES, ApicBlock, ApicFlag, Extra, LOCAL_APIC_BYTES } from './block.ts';
export { ApicEvent, ApicReset, type EventCounts, isBalanced, readTotals } from './counters.ts';
export {
  AcceptResult,
  DeliveryMode,
  encodeIcr,
  type IcrFields,
  icrIsAssert,
  icrIsInitDeassert,
  icrIsLevel,
  icrIsLogical,
  icrMode,
  icrShorthand,
  icrVector,
  Shorthand,
  TimerMode,
} from './icr.ts';
export { fromKvmImage, toKvmImage } from './kvm-image.ts';
export { EventLatches, type SimpleLatch } from './latches.ts';
export { LocalApic, type LocalApicPort, type LocalApicState } from './local-apic.ts';
export { LintPin, LocalVectors } from './local-vectors.ts';
export { arbitrationPriority, classOf, processorPriority } from './priority.ts';
export { isApicMsr, readMsr, readPage, writeMsr, writePage } from './register-access.ts';
export {
  ApicReg,
  type ApicRegister,
  apicRegisters,
  defaultApicConfig,
  Esr,
  type LocalApicConfig,
  Lvt,
  MSR_APIC_BASE,
  MSR_TSC_DEADLINE,
  type RegisterAccess,
  RegisterRules,
  Svr,
  X2APIC_MSR_BASE,
  X2APIC_MSR_COUNT,
} from './registers.ts';
export { type ApicClock, ApicTimer, divisorOf } from './timer.ts';
export { ApicMap, BROADCAST } from './apic-map.ts';
export {
  type GsiRoute,
  GsiRouting,
  type GsiRoutingOptions,
  type GsiRoutingState,
  Irqchip,
  IRQCHIP_PLANE,
  MAX_GSI_ROUTES,
  type MsiRoute,
  type PinRoute,
  type PinSink,
  type PlaneRule,
} from './gsi-routing.ts';
export { acceptCoded, type ApicMessage, InterruptRouter, type MessageSink, newMessage, NO_DESTINATION } from './ipi.ts';
export { decodeMsi, isMsiAddress, isValidMsi, MSI_ADDRESS_PREFIX, type MsiSignal, sendMsi, signalMsiResult } from './msi.ts';
