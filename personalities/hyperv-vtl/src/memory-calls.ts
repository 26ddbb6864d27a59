import { type HvCall, HvOutputMemoryMappedIoRead, HvStatus } from '@vmplanes/abi-hyperv';
import { AccessResult, type ExitPayload, PAGE_SIZE } from '@vmplanes/engine';
import type { RepHandler, SimpleHandler } from './dispatcher/bind.ts';
import type { CallFrame } from './dispatcher/call-frame.ts';

const { Success, InvalidParameter } = HvStatus;
const TWO_32 = 2 ** 32;

/** Name of the completion of an MMIO read made by a call. */
export const MMIO_READ = 'mmioRead';

interface MmioInput {
  readonly gpaLo: number;
  readonly gpaHi: number;
  readonly accessWidth: number;
  readonly reservedZ: number;
}

const isWidth = (bytes: number): boolean => bytes === 1 || bytes === 2 || bytes === 4 || bytes === 8;

/** The address, or -1 when the operands are not valid. Devices take naturally aligned accesses of up to 8 bytes. */
const addressOf = (call: CallFrame, { gpaLo, gpaHi, accessWidth, reservedZ }: MmioInput): number => {
  const gpa = gpaHi * TWO_32 + gpaLo;
  const isValid = reservedZ === 0 && isWidth(accessWidth) && gpa % accessWidth === 0 && gpa + accessWidth <= 2 ** call.hv.arch.registers.features.physicalBits;
  return isValid ? gpa : -1;
};
const isMemory = (call: CallFrame, gpa: number): boolean => call.hv.machine.memory.slots.find(Math.floor(gpa / PAGE_SIZE)) !== null;

/** Reads a device, or memory with the rights of the caller. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const memoryMappedIoRead: SimpleHandler<typeof HvCall.MemoryMappedIoRead> = (call, input, output) => {
  const gpa = addressOf(call, input);
  if (gpa < 0) return InvalidParameter;
  const { memory } = call.hv.machine;
  const size = input.accessWidth;
  if (isMemory(call, gpa)) return memory.access.read(memory.subjects[call.vtl]!.call, gpa, output.bytes, output.dataAt, size) === AccessResult.Ok ? Success : InvalidParameter;
  const { replies } = call.vp;
  return call.answered(replies.exit({ kind: 'mmio', write: false, gpa, size, lo: 0, hi: 0 } as ExitPayload, { owner: 'hyperv-vtl', kind: MMIO_READ, data: { size }, reply: null }));
};

/** Puts what the device answered into the output of the call. @returns bytes of output. */
export const completeMmioRead = (call: CallFrame, size: number, lo: number, hi: number): number => {
  const { bytes, words } = call.output;
  bytes.fill(0, 0, HvOutputMemoryMappedIoRead.size);
  words[0] = lo;
  words[1] = hi;
  bytes.fill(0, size, 8);
  return HvOutputMemoryMappedIoRead.size;
};

/** Writes to a device, or to memory with the rights of the caller. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const memoryMappedIoWrite: SimpleHandler<typeof HvCall.MemoryMappedIoWrite> = (call, input) => {
  const gpa = addressOf(call, input);
  if (gpa < 0) return InvalidParameter;
  const { memory } = call.hv.machine;
  const size = input.accessWidth;
  if (isMemory(call, gpa)) return memory.access.write(memory.subjects[call.vtl]!.call, gpa, input.bytes, input.dataAt, size) === AccessResult.Ok ? Success : InvalidParameter;
  const word = input.dataAt >>> 2;
  const mask = size >= 4 ? 0xffff_ffff : 2 ** (8 * size) - 1;
  call.answer = call.vp.replies.exit({ kind: 'mmio', write: true, gpa, size, lo: (input.words[word]! & mask) >>> 0, hi: size === 8 ? input.words[word + 1]! : 0 } as ExitPayload);
  return Success;
};

/** Memory always stays where it is. @spec openvmm vm/hv1/hvdef/src/lib.rs */
export const pinGpaPageRanges: RepHandler<typeof HvCall.PinGpaPageRanges> = {
  check: (_call, { reservedLo, reservedHi }) => ((reservedLo | reservedHi) !== 0 ? InvalidParameter : Success),
  element: () => Success,
};
