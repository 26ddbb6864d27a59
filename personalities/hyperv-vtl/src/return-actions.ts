import { HvVpAssistPage, HvVpAssistPageActionSignalEvent, HvVpAssistPageActionType } from '@vmplanes/abi-hyperv';
import type { PlaneContext } from '@vmplanes/engine';
import type { HvContext } from './ports.ts';

const ACTIONS = HvVpAssistPage.at.vtlReturnActions;
const { size: ENTRY, at } = HvVpAssistPageActionSignalEvent;
const ENTRIES = 256 / ENTRY;
const SIGNAL_EVENT = Number(HvVpAssistPageActionType.SignalEvent);

/**
 * Does what the returning VTL left in its assist page, up to the first entry of no action, and clears it. An action that cannot be done, or aims
 * at a VTL above the returning one, has no effect.
 * @spec openvmm vm/hv1/hvdef/src/lib.rs (VpAssistPageActionSignalEvent)
 */
export const runReturnActions = (hv: HvContext, context: PlaneContext): void => {
  const { assist, synic } = hv.chapters;
  const content = assist.content(context);
  const first = (content + ACTIONS) >>> 2;
  const { u32 } = hv.machine.arena;
  if (content < 0 || (u32[first]! | u32[first + 1]!) === 0) return;
  for (let entry = 0; entry < ENTRIES; entry++) {
    const offset = ACTIONS + entry * ENTRY;
    const type = assist.readU32(context, offset + at.actionType);
    const typeHigh = assist.readU32(context, offset + at.actionType + 4);
    if ((type | typeHigh) === 0) return;
    const vp = assist.readU32(context, offset + at.targetVp);
    const target = assist.readU32(context, offset + at.targetVtl);
    for (let word = 0; word < ENTRY; word += 4) assist.writeU32(context, offset + word, 0);
    const vtl = target & 0xff;
    if (type !== SIGNAL_EVENT || typeHigh !== 0 || vtl > context.plane) continue;
    const to = hv.machine.vps[vp]?.planes[vtl];
    if (to) synic.signal(to, (target >>> 8) & 0xff, target >>> 16);
  }
};
