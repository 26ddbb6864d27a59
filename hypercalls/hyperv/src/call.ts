import { type AnyLayout, type Infer, type InferInput, type Scalar, type Struct, struct, u64 } from '@vmplanes/binary';
import type { HvRecommendation } from './cpuid.ts';
import { FAST_INPUT_BYTES, PARAMETER_ALIGNMENT, PARAMETER_PAGE_BYTES, XMM_FAST_INPUT_BYTES } from './hypercall.ts';
import type { HvPrivilege } from './privileges.ts';
import type { HvStatusName } from './status.ts';

/** How a call takes its parameters. @spec TLFS Hypercall Interface, hypercall classes */
export const CallShape = {
  Simple: 'simple',
  Variable: 'variable',
  Rep: 'rep',
  VariableRep: 'variableRep',
  VtlSwitch: 'vtlSwitch',
  Opaque: 'opaque',
} as const;
export type CallShape = (typeof CallShape)[keyof typeof CallShape];

/** Which register forms a call allows; `xmm` includes `registers`. @spec TLFS Hypercall Interface */
export const FastForm = { Never: 'never', Registers: 'registers', Xmm: 'xmm' } as const;
export type FastForm = (typeof FastForm)[keyof typeof FastForm];

/** No parameters of this kind. */
export const None: Struct<Record<never, never>> = struct('None', 'no parameters', 0, {});
export type None = typeof None;

/** What every declaration says. */
export interface CallFacts {
  readonly code: number;
  /** Document and section that define it. */
  readonly spec: string;
  /** Partition privileges that a caller needs, all of them; absent when none. */
  readonly privileges?: readonly HvPrivilege[];
  /** CPUID recommendation bit that advertises it. */
  readonly recommendedBy?: HvRecommendation;
  /** Failures that its own section lists, besides those of every call; absent where no list is published. */
  readonly statuses?: readonly HvStatusName[];
  /** Why this product does not implement it; absent when it does. */
  readonly unsupported?: string;
}
interface Named {
  /** The specification's own name. */
  readonly name: string;
}
interface Parameters<S extends CallShape, H extends AnyLayout, V extends AnyLayout, E extends AnyLayout, O extends AnyLayout, P extends AnyLayout> extends CallFacts, Named {
  readonly shape: S;
  readonly fast: FastForm;
  /** Fixed input. */
  readonly header: H;
  /** One unit of the variable header, 8 bytes. */
  readonly variable: V;
  /** One input element. */
  readonly element: E;
  /** Fixed output. */
  readonly output: O;
  /** One output element. */
  readonly outputElement: P;
}

/** One operation. */
export type SimpleCall<H extends AnyLayout = AnyLayout, O extends AnyLayout = AnyLayout> = Parameters<'simple', H, None, None, O, None>;
/** One operation with a variable header. */
export type VariableCall<H extends AnyLayout = AnyLayout, V extends AnyLayout = AnyLayout, O extends AnyLayout = AnyLayout> = Parameters<'variable', H, V, None, O, None>;
/** One operation per element. */
export type RepCall<H extends AnyLayout = AnyLayout, E extends AnyLayout = AnyLayout, P extends AnyLayout = AnyLayout> = Parameters<'rep', H, None, E, None, P>;
/** One operation per element, with a variable header. */
export type VariableRepCall<H extends AnyLayout = AnyLayout, V extends AnyLayout = AnyLayout, E extends AnyLayout = AnyLayout, P extends AnyLayout = AnyLayout> =
  Parameters<'variableRep', H, V, E, None, P>;
/** VTL call or return: no parameters in memory, a control input in a register, no result. @spec TLFS Virtual Secure Mode */
export interface VtlSwitchCall<I extends AnyLayout = AnyLayout> extends CallFacts, Named {
  readonly shape: 'vtlSwitch';
  readonly fast: 'never';
  readonly input: I;
}
/** A call whose parameters no public source describes. */
export interface OpaqueCall extends CallFacts, Named {
  readonly shape: 'opaque';
  readonly fast: 'never';
  readonly unsupported: string;
}
/** Calls with parameters in memory or registers. */
export type ParameterCall = SimpleCall | VariableCall | RepCall | VariableRepCall;
/** Every declared call. */
export type Call = ParameterCall | VtlSwitchCall | OpaqueCall;

/** What a handler gets after its own context: header, then units of the variable header, then elements. */
export type CallArguments<C extends Call> =
  C extends VariableRepCall ? readonly [header: Infer<C['header']>, variable: readonly Infer<C['variable']>[], elements: readonly Infer<C['element']>[]]
  : C extends RepCall ? readonly [header: Infer<C['header']>, elements: readonly Infer<C['element']>[]]
  : C extends VariableCall ? readonly [header: Infer<C['header']>, variable: readonly Infer<C['variable']>[]]
  : C extends SimpleCall ? readonly [header: Infer<C['header']>]
  : C extends VtlSwitchCall ? readonly [input: Infer<C['input']>]
  : never;
/** A layout with fields is assignable to one without, so the test goes the other way. */
type IfNone<L extends AnyLayout, T> = [None] extends [L] ? undefined : T;
/** What a handler gives back besides its status: the output block, or one value per element done; `undefined` where there is none. */
export type CallOutput<C extends Call> =
  C extends SimpleCall | VariableCall ? IfNone<C['output'], InferInput<C['output']>>
  : C extends RepCall | VariableRepCall ? IfNone<C['outputElement'], readonly InferInput<C['outputElement']>[]>
  : undefined;

const roundUp = (size: number): number => Math.ceil(size / PARAMETER_ALIGNMENT) * PARAMETER_ALIGNMENT;

/** Bytes of the input block. @param units - 8-byte units of the variable header. @param reps - elements. */
export const inputBytes = (call: ParameterCall, units: number, reps: number): number => call.header.size + units * call.variable.size + reps * call.element.size;
/** Bytes of the output block, without padding. @param reps - elements. */
export const outputBytes = (call: ParameterCall, reps: number): number => call.output.size + reps * call.outputElement.size;
/** Whether the call can give its output in XMM registers. @spec TLFS Hypercall Interface, XMM fast hypercall output */
export const hasFastOutput = (call: ParameterCall): boolean => call.fast === FastForm.Xmm && outputBytes(call, 1) > 0;
/** Tells calls with parameters from switches and opaque calls. */
export const isParameterCall = (call: Call): call is ParameterCall => call.shape !== CallShape.VtlSwitch && call.shape !== CallShape.Opaque;

/** Checks what every declaration must satisfy, and freezes it. @throws {RangeError} naming the call. */
function checked<C extends Call>(call: C): C {
  const refuse = (why: string): never => {
    throw new RangeError(`${call.name}: ${why}`);
  };
  if (!Number.isInteger(call.code) || call.code < 1 || call.code > 0xffff) refuse(`code ${call.code} is not in 1..0xffff`);
  if (call.unsupported === '') refuse('an unsupported call needs a reason');
  if (isParameterCall(call)) {
    const hasVariable = call.variable.size > 0;
    if (hasVariable && call.variable.size !== PARAMETER_ALIGNMENT) refuse(`a variable header has units of ${PARAMETER_ALIGNMENT} bytes`);
    if (call.header.size % PARAMETER_ALIGNMENT !== 0) refuse(`a header of ${call.header.size} bytes is not padded`);
    if (call.output.size % PARAMETER_ALIGNMENT !== 0) refuse(`an output of ${call.output.size} bytes is not padded`);
    const smallest = call.header.size + call.element.size;
    if (call.fast === FastForm.Registers && smallest > FAST_INPUT_BYTES) refuse(`${smallest} bytes do not fit two registers`);
    if (call.fast === FastForm.Xmm && smallest > XMM_FAST_INPUT_BYTES) refuse(`${smallest} bytes do not fit the XMM registers`);
    if (roundUp(smallest) > PARAMETER_PAGE_BYTES || roundUp(outputBytes(call, 1)) > PARAMETER_PAGE_BYTES) refuse('does not fit a page');
  }
  return Object.freeze(call);
}

interface Fast {
  /** Register forms allowed; default `never`. */
  readonly fast?: FastForm;
}

/** Declares a simple call. @throws {RangeError} when sizes or code do not fit the rules of the interface. */
export const simple = <const H extends AnyLayout = None, const O extends AnyLayout = None>(
  name: string, facts: CallFacts & Fast & { readonly header?: H; readonly output?: O },
): SimpleCall<H, O> => checked({ name, fast: FastForm.Never, ...facts, shape: CallShape.Simple, header: (facts.header ?? None) as H, variable: None, element: None, output: (facts.output ?? None) as O, outputElement: None });

/** Declares a simple call with a variable header of u64 units. @throws {RangeError} as {@link simple}. */
export const variable = <const H extends AnyLayout, const O extends AnyLayout = None>(
  name: string, facts: CallFacts & Fast & { readonly header: H; readonly output?: O },
): VariableCall<H, Scalar<bigint>, O> => checked({ name, fast: FastForm.Never, ...facts, shape: CallShape.Variable, variable: u64, element: None, output: (facts.output ?? None) as O, outputElement: None });

/** Declares a rep call. Elements without input or output are left out. @throws {RangeError} as {@link simple}. */
export const rep = <const H extends AnyLayout, const E extends AnyLayout = None, const P extends AnyLayout = None>(
  name: string, facts: CallFacts & Fast & { readonly header: H; readonly element?: E; readonly outputElement?: P },
): RepCall<H, E, P> => checked({ name, fast: FastForm.Never, ...facts, shape: CallShape.Rep, variable: None, element: (facts.element ?? None) as E, output: None, outputElement: (facts.outputElement ?? None) as P });

/** Declares a rep call with a variable header of u64 units. @throws {RangeError} as {@link simple}. */
export const variableRep = <const H extends AnyLayout, const E extends AnyLayout, const P extends AnyLayout = None>(
  name: string, facts: CallFacts & Fast & { readonly header: H; readonly element: E; readonly outputElement?: P },
): VariableRepCall<H, Scalar<bigint>, E, P> =>
  checked({ name, fast: FastForm.Never, ...facts, shape: CallShape.VariableRep, variable: u64, output: None, outputElement: (facts.outputElement ?? None) as P });

/** Declares VTL call or return. @param facts.input - layout of the control input. */
export const vtlSwitch = <const I extends AnyLayout>(name: string, facts: CallFacts & { readonly input: I }): VtlSwitchCall<I> =>
  checked({ name, ...facts, shape: CallShape.VtlSwitch, fast: FastForm.Never });

/** Declares a call of which only name and number are public. */
export const opaque = (name: string, facts: CallFacts & { readonly unsupported: string }): OpaqueCall => checked({ name, ...facts, shape: CallShape.Opaque, fast: FastForm.Never });
