export { compileStep, compileTable, type CompiledStep, Op, toU64 } from './compile.ts';
export { ScriptCpu, type ScriptBinding } from './script-cpu.ts';
export { type GeneratorScript, isTable, type RegisterValues, type Script, type ScriptArgs, type Step, type StepFault, type StepResult, type TableScript, type Value } from './steps.ts';
