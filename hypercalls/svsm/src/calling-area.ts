import { bytes, struct, u8 } from '@vmplanes/binary';

/** Bytes that the provider reads and writes at each call; the rest of the page is the guest's. */
export const SVSM_CALLING_AREA_HEAD = 8;

/** Calling area: one page per virtual processor. @spec SVSM 1.00, calling area */
export const SvsmCallingArea = struct('SvsmCallingArea', 'SVSM 1.00, calling area', 4096, {
  callPending: [0, u8, 'set by the guest, cleared by the provider'],
  memAvailable: [1, u8, 'the provider can give memory back'],
  noEoiRequired: [2, u8, 'set by the provider, cleared by the guest: the EOI may be left out'],
  reserved3: [3, bytes(5)],
  buffer: [8, bytes(4088), 'for the guest: call structures'],
});
