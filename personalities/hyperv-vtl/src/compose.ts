import { AssistPageChapter } from './assist-page.ts';
import { ArchitecturalIntercepts } from './cr-intercepts.ts';
import { CpuidChapter } from './cpuid.ts';
import { HypercallChapter } from './hypercalls.ts';
import { InterceptChapter } from './intercepts.ts';
import { IoIntercepts } from './io-intercepts.ts';
import { MsrChapter } from './msrs.ts';
import { OverlayChapter } from './overlays.ts';
import { PendingEventChapter } from './pending-events.ts';
import type { Chapter, HvChapters, HvContext } from './ports.ts';
import { ProcessorIntercepts } from './processor-intercepts.ts';
import { ProtectionChapter } from './protections.ts';
import { ReferenceTimeChapter } from './reference-time.ts';
import { SwitchingChapter } from './switching.ts';
import { SynicChapter } from './synic.ts';
import { SyntheticTimerChapter } from './synthetic-timers.ts';
import { VinaChapter } from './vina.ts';
import { VsmChapter } from './vsm.ts';

/** Makes the chapters of one machine. They find each other through `hv.chapters` once all are made. */
export const composeChapters = (hv: HvContext): { readonly chapters: HvChapters; readonly intercepts: ArchitecturalIntercepts; readonly stateful: readonly Chapter[] } => {
  const overlays = new OverlayChapter(hv);
  const assist = new AssistPageChapter(hv);
  const clocks = new ReferenceTimeChapter(hv);
  const synic = new SynicChapter(hv);
  const timers = new SyntheticTimerChapter(hv);
  const vsm = new VsmChapter(hv);
  const protections = new ProtectionChapter(hv);
  const intercepts = new InterceptChapter(hv);
  const vina = new VinaChapter(hv);
  const events = new PendingEventChapter(hv);
  const switching = new SwitchingChapter(hv);
  const msrs = new MsrChapter(hv);
  const hypercalls = new HypercallChapter(hv);
  const cpuid = new CpuidChapter(hv);
  const ioIntercepts = new IoIntercepts();
  const processorIntercepts = new ProcessorIntercepts(hv);
  const architectural = new ArchitecturalIntercepts(hv);
  const chapters: HvChapters = { hypercalls, msrs, cpuid, vsm, switching, protections, intercepts, vina, events, assist, overlays, synic, timers, clocks, ioIntercepts, processorIntercepts };
  // Overlays first: a restored register names a page whose frame must exist.
  return { chapters, intercepts: architectural, stateful: [overlays, assist, clocks, synic, timers, vsm, protections, intercepts, vina, events, msrs, cpuid, ioIntercepts, processorIntercepts, hypercalls] };
};
