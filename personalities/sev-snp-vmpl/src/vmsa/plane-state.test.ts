import type { PlaneContext } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { PlaneState } from './plane-state.ts';

const context = { plane: 2 } as PlaneContext;
const fresh = {
  ghcbMsrLo: 0, ghcbMsrHi: 0, registeredGhcb: -1, doorbell: -1, vmsa: -1, pendingVmsa: -1, featuresLo: 0, featuresHi: 0, virtualTom: 0, isWaitingForReset: false, isRunnable: false, isLive: false,
  refusal: null, resetHold: null, isNmiMasked: false, isForced: false, page: -1, frame: -1,
};
const other = {
  ghcbMsrLo: 1, ghcbMsrHi: 2, registeredGhcb: 3, doorbell: 4, vmsa: 5, pendingVmsa: 6, featuresLo: 7, featuresHi: 8, virtualTom: 9, isWaitingForReset: true, isRunnable: true, isLive: true,
  refusal: 'CR0', resetHold: 'ghcb', isNmiMasked: true, isForced: true, page: 10, frame: 11,
} as const;

describe('the record of a VMPL', () => {
  it('begins without a save area, a doorbell and a GHCB', () => {
    const plane = new PlaneState(context);
    expect(plane.save()).toEqual(fresh);
    expect({ ...plane }).toEqual({ ...fresh, context });
  });
  it('saves and restores everything but its context', () => {
    const plane = new PlaneState(context);
    Object.assign(plane, other);
    expect(plane.save()).toEqual(other);
    const copy = new PlaneState(context);
    copy.restore(structuredClone(plane.save()));
    expect({ ...copy }).toEqual({ ...other, context });
    copy.restore(fresh);
    expect(copy.save()).toEqual(fresh);
  });
});
