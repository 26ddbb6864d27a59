import type { PerProfile } from '../profile.ts';
import { KvmIrqRouting, KvmIrqRoutingPlanes } from './calls.ts';
import { ExitMemoryFault, ExitMemoryFaultPlanes } from './exits.ts';
import { KvmRun, KvmRunPlanes, PlaneEvent2024, PlaneEvent2025, PlaneEvent2026 } from './run.ts';

const layoutsOf = <R, E, G, M>(run: R, planeEvent: E, gsiRouting: G, memoryFault: M): { readonly run: R; readonly planeEvent: E; readonly gsiRouting: G; readonly memoryFault: M } =>
  ({ run, planeEvent, gsiRouting, memoryFault });

/** The layouts that differ between profiles. `vmplanes` uses those of 2025-04 with every payload byte zeroed first, and a plane per route. */
export const LAYOUTS = {
  '2024-10': layoutsOf(KvmRunPlanes, PlaneEvent2024, KvmIrqRouting, ExitMemoryFault),
  '2025-04': layoutsOf(KvmRunPlanes, PlaneEvent2025, KvmIrqRouting, ExitMemoryFault),
  '2026-06': layoutsOf(KvmRun, PlaneEvent2026, KvmIrqRouting, ExitMemoryFault),
  vmplanes: layoutsOf(KvmRunPlanes, PlaneEvent2025, KvmIrqRoutingPlanes, ExitMemoryFaultPlanes),
} as const satisfies PerProfile<object>;
