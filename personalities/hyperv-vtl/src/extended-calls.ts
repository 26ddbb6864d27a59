import { type HvCall, HvExtCapabilities, HvExtOutputBootZeroedMemory, HvStatus } from '@vmplanes/abi-hyperv';
import { hiWord, loWord } from '@vmplanes/binary';
import { NO_FRAME } from '@vmplanes/engine';
import type { RepHandler, SimpleHandler } from './dispatcher/bind.ts';

const { Success, InvalidParameter } = HvStatus;
/** The extended calls that are served. */
const served = HvExtCapabilities.pack({ getBootZeroedMemory: true, memoryHeatHint: true });

/** @spec TLFS HvExtCallQueryCapabilities */
export const queryCapabilities: SimpleHandler<typeof HvCall.QueryCapabilities> = (_call, _input, output) => {
  output.capabilitiesLo = loWord(served);
  output.capabilitiesHi = hiWord(served);
  return Success;
};

const RANGE_BYTES = 16;
const MAX_RANGES = (HvExtOutputBootZeroedMemory.size - HvExtOutputBootZeroedMemory.at.ranges) / RANGE_BYTES;

/** Ranges that nobody has written to since the machine was made. @spec TLFS HvExtCallGetBootZeroedMemory */
export const getBootZeroedMemory: SimpleHandler<typeof HvCall.GetBootZeroedMemory> = (call, _input, output) => {
  const { memory } = call.hv.machine;
  let count = 0;
  for (const slot of memory.slots.all) {
    let first = -1;
    for (let gpn = slot.first; gpn <= slot.end && count < MAX_RANGES; gpn++) {
      const isZero = gpn < slot.end && slot.backing.frame(gpn - slot.first + slot.backingPage, memory.isPrivate(gpn)) === NO_FRAME;
      if (isZero && first < 0) first = gpn;
      if (isZero || first < 0) continue;
      const word = (output.rangesAt + count * RANGE_BYTES) >>> 2;
      output.words[word] = first >>> 0;
      output.words[word + 1] = Math.floor(first / 2 ** 32);
      output.words[word + 2] = gpn - first;
      count++;
      first = -1;
    }
  }
  output.rangeCountLo = count;
  return Success;
};

/** Cold or hot; discarding is not offered. */
const HOTTEST = 1;

/** Memory is never taken away from a guest: a hint changes nothing. @spec Linux include/hyperv/hvgdk_ext.h */
export const memoryHeatHint: RepHandler<typeof HvCall.MemoryHeatHint> = {
  check: (_call, input) => (input.heatTypeHi !== 0 || input.heatTypeLo > HOTTEST ? InvalidParameter : Success),
  element: () => Success,
};
