import { HypercallInput, HypercallInputV6 } from '@vmplanes/abi-hyperv';
import { hiWord, loWord } from '@vmplanes/binary';
import type { CallFrame } from './call-frame.ts';

/** What differs between the published layouts of the control word. */
export interface ControlLayout {
  readonly unitsMask: number;
  /** Bits that must be zero. */
  readonly reservedLo: number;
  readonly reservedHi: number;
}

const layoutOf = (layout: typeof HypercallInput | typeof HypercallInputV6): ControlLayout => ({
  unitsMask: loWord(layout.mask.variableHeaderSize >> BigInt(layout.shift.variableHeaderSize)),
  reservedLo: loWord(layout.reservedMask),
  reservedHi: hiWord(layout.reservedMask),
});

/** The control word by the name of its layout. Both have code, fast bit, rep count and rep start in the same places. */
export const controlLayouts: Readonly<Record<'tlfs' | 'v6', ControlLayout>> = { tlfs: layoutOf(HypercallInput), v6: layoutOf(HypercallInputV6) };

/** Takes the control word of a call apart. */
export const decodeControl = (call: CallFrame, layout: ControlLayout): void => {
  const { controlLo: lo, controlHi: hi } = call;
  call.code = lo & 0xffff;
  call.isFast = (lo & 0x1_0000) !== 0;
  call.units = (lo >>> 17) & layout.unitsMask;
  call.count = hi & 0xfff;
  call.start = (hi >>> 16) & 0xfff;
};
