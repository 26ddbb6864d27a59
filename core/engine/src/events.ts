import type { PlaneId, PlaneMask, VpIndex } from './ids.ts';

/** Observations for users of the library. Listeners never decide: a throwing or slow listener is the listener's own affair. */
export interface MachineEvents {
  /** A VP went from one plane to another. */
  'plane-switch': (event: { readonly vp: VpIndex; readonly from: PlaneId; readonly to: PlaneId; readonly reason: string; readonly time: number }) => void;
  /** A VP left to the VMM. */
  'vm-exit': (event: { readonly vp: VpIndex; readonly plane: PlaneId; readonly kind: string }) => void;
  /** An event was stored for a plane. */
  'event-accepted': (event: { readonly vp: VpIndex; readonly plane: PlaneId; readonly pending: PlaneMask }) => void;
  /** A plane was enabled on a VP. */
  'plane-created': (event: { readonly vp: VpIndex; readonly plane: PlaneId }) => void;
  /** A plane was taken from a VP. */
  'plane-removed': (event: { readonly vp: VpIndex; readonly plane: PlaneId }) => void;
}
