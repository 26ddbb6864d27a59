import type { Call, ParameterCall, RepCall, SimpleCall, VariableCall, VariableRepCall, VtlSwitchCall } from '@vmplanes/abi-hyperv';
import type { Answer } from '@vmplanes/engine';
import type { Block, View } from './block.ts';
import type { CallFrame } from './call-frame.ts';

type Parameterised<Shape, C> = C extends ParameterCall ? (C['shape'] extends Shape ? C : never) : never;

/**
 * Serves a simple call.
 * @param output - zeroed; given to the guest when the status is success.
 * @returns an `HvStatus`, or `Special`.
 */
export type SimpleHandler<C> = (call: CallFrame, input: Readonly<View<Parameterised<'simple' | 'variable', C>['header']>>, output: View<Parameterised<'simple' | 'variable', C>['output']>) => number;

/** Serves a rep call, element by element. The dispatcher counts, continues and gives outputs of elements done to the guest. */
export interface RepHandler<C> {
  /** What is checked once, before the first element of each run. */
  readonly check?: (call: CallFrame, input: Readonly<View<Parameterised<'rep' | 'variableRep', C>['header']>>) => number;
  /** Bytes of a list of `count` elements that do not lie one behind the other. */
  readonly listBytes?: (count: number) => number;
  /**
   * Does one element; `call.index` is its number.
   * @param output - of this element, zeroed.
   * @returns an `HvStatus`, or `Special`: elements before this one stay done.
   */
  readonly element: (
    call: CallFrame,
    input: Readonly<View<Parameterised<'rep' | 'variableRep', C>['header']>>,
    element: Readonly<View<Parameterised<'rep' | 'variableRep', C>['element']>>,
    output: View<Parameterised<'rep' | 'variableRep', C>['outputElement']>,
  ) => number;
}

/** Serves VTL call and return. */
export type VtlSwitchHandler = (call: CallFrame) => Answer;

/** What a call of some shape is bound to. */
export type HandlerOf<C extends Call> = C extends SimpleCall | VariableCall ? SimpleHandler<C> : C extends RepCall | VariableRepCall ? RepHandler<C> : C extends VtlSwitchCall ? VtlSwitchHandler : never;

/** A bound handler behind the types of its call; blocks are the views that the call's layouts make. */
export interface SimpleBinding {
  readonly kind: 'simple';
  readonly call: ParameterCall;
  run(call: CallFrame, input: Block, output: Block): number;
}
export interface RepBinding {
  readonly kind: 'rep';
  readonly call: ParameterCall;
  check(call: CallFrame, input: Block): number;
  /** Bytes of a list, where they are not those of its elements. */
  readonly listBytes: ((count: number) => number) | null;
  element(call: CallFrame, input: Block, element: Block, output: Block): number;
}
export interface VtlSwitchBinding {
  readonly kind: 'vtlSwitch';
  readonly call: VtlSwitchCall;
  readonly run: VtlSwitchHandler;
}
export interface UnsupportedBinding {
  readonly kind: 'unsupported';
  readonly call: Call;
  readonly reason: string;
}
/** One row of the handler table. */
export type Binding = SimpleBinding | RepBinding | VtlSwitchBinding | UnsupportedBinding;

const unchecked = (): number => 0;

/** Binds a handler to a declared call. */
export const on = <C extends Exclude<Call, { readonly shape: 'opaque' }>>(call: C, handler: HandlerOf<C>): Binding => {
  if (call.shape === 'vtlSwitch') return { kind: 'vtlSwitch', call, run: handler as VtlSwitchHandler };
  if (typeof handler === 'function') return { kind: 'simple', call, run: handler as SimpleBinding['run'] };
  const { check, listBytes, element } = handler as RepHandler<RepCall>;
  return { kind: 'rep', call, check: (check ?? unchecked) as RepBinding['check'], listBytes: listBytes ?? null, element: element as RepBinding['element'] };
};

/** States that a declared call is not served; guests get the status of an unknown code. */
export const unsupported = (call: Call, reason: string): Binding => ({ kind: 'unsupported', call, reason });
