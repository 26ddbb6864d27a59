import { HV_VPS_PER_BANK, HvStatus } from '@vmplanes/abi-hyperv';
import type { CallFrame } from './dispatcher/call-frame.ts';

const FORMAT_SPARSE = 0;
const FORMAT_ALL = 1;
const ALL = 0xffff_ffff;

const popcount = (word: number): number => {
  let n = 0;
  for (let rest = word; rest !== 0; rest &= rest - 1) n++;
  return n;
};

/** The first `n` bits of a word; all for 32 and more, none for 0 and less. */
const below = (n: number): number => (n >= 32 ? ALL : n <= 0 ? 0 : (1 << n) - 1);

/** Takes the VPs of a 64-bit mask; those that do not exist are left out. */
export const targetMask = (call: CallFrame, lo: number, hi: number): void => {
  const count = call.hv.machine.vps.length;
  call.targetsLo = lo & below(count);
  call.targetsHi = hi & below(count - 32);
};

/** Takes every VP. */
export const targetAll = (call: CallFrame): void => targetMask(call, ALL, ALL);

/**
 * Takes the VPs of a set whose banks are in the variable header.
 * @param at - byte of the input where the format and the bank mask are. @param firstUnit - unit of the variable header with the first bank.
 * @returns a status: 5 on an unknown format, or when there are not as many banks as the mask says.
 * @spec TLFS HV_VP_SET
 */
export const targetSet = (call: CallFrame, at: number, firstUnit: number): number => {
  const { words } = call.input;
  const word = at >>> 2;
  if (words[word + 1] !== 0) return HvStatus.InvalidParameter;
  const format = words[word];
  if (format === FORMAT_ALL) {
    targetAll(call);
    return HvStatus.Success;
  }
  const banksLo = words[word + 2]!;
  const banksHi = words[word + 3]!;
  if (format !== FORMAT_SPARSE || popcount(banksLo) + popcount(banksHi) !== call.units - firstUnit) return HvStatus.InvalidParameter;
  // A machine has at most one bank of VPs; what other banks name does not exist.
  if ((banksLo & 1) !== 0) targetMask(call, call.unitLo(firstUnit), call.unitHi(firstUnit));
  else targetMask(call, 0, 0);
  return HvStatus.Success;
};

/** Whether a VP is among the targets. @param vp - 0..63. */
export const isTarget = (call: CallFrame, vp: number): boolean => (((vp < 32 ? call.targetsLo : call.targetsHi) >>> (vp % 32)) & 1) !== 0 && vp < HV_VPS_PER_BANK;
