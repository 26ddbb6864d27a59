export * from './assist-page.ts';
export {
  type Call, type CallArguments, type CallFacts, type CallOutput, CallShape, FastForm, hasFastOutput, inputBytes, isParameterCall, None, opaque, type OpaqueCall, outputBytes, type ParameterCall, rep, type RepCall,
  simple, type SimpleCall, variable, type VariableCall, variableRep, type VariableRepCall, vtlSwitch, type VtlSwitchCall,
} from './call.ts';
export { callName, callOf, CALLS, HvCall, type HvCallName, OTHER_CALL_NAMES, UNSUPPORTED_CALLS } from './calls.ts';
export * from './call-layouts.ts';
export * from './context.ts';
export * from './cpuid.ts';
export { type Dispute, DISPUTES } from './disputes.ts';
export * from './hypercall.ts';
export { LAYOUTS } from './layouts.ts';
export * from './messages.ts';
export * from './msrs.ts';
export * from './pending.ts';
export * from './privileges.ts';
export { HvRegister, type HvRegisterName, registerOf, type RegisterFacts, type RegisterRow, REGISTERS } from './registers.ts';
export { Source } from './sources.ts';
export { HvStatus, type HvStatusName, statusMeaning, statusName } from './status.ts';
export * from './synic.ts';
export * from './tsc-page.ts';
export * from './vsm.ts';
export * from './vtl.ts';
