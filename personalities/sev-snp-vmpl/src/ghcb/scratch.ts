import { GHCB_BUFFER, GHCB_SCRATCH_PAGES, type GhcbVersion } from '@vmplanes/abi-sev-snp';
import { PAGE_SIZE } from '@vmplanes/engine';

/**
 * Whether scratch data may lie where the guest says: in the shared buffer, or, before version 2 of the protocol, in up to 16 pages anywhere.
 * @param scratch - SW_SCRATCH, bytes. @param ghcb - the page. @param length - bytes; 0 is not usable.
 * @spec Linux arch/x86/kvm/svm/sev.c (setup_vmgexit_scratch)
 */
export const isScratchUsable = (scratch: number, ghcb: number, length: number, version: GhcbVersion): boolean => {
  if (scratch === 0 || length <= 0 || scratch + length > 2 ** 64) return false;
  if (scratch >= ghcb && scratch < ghcb + PAGE_SIZE) return scratch >= ghcb + GHCB_BUFFER.from && scratch + length <= ghcb + GHCB_BUFFER.to;
  return version < 2 && length <= GHCB_SCRATCH_PAGES * PAGE_SIZE;
};

/** Bytes from a scratch address to the end of the shared buffer; 0 when it lies elsewhere. */
export const bytesToBufferEnd = (scratch: number, ghcb: number): number => {
  const isInside = scratch >= ghcb + GHCB_BUFFER.from && scratch < ghcb + GHCB_BUFFER.to;
  return isInside ? ghcb + GHCB_BUFFER.to - scratch : 0;
};
