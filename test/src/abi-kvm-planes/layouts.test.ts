import {
  ExitMemoryFaultPlanes, KvmEnableCap, KvmIrqRoutingEntryPlanes, KvmIrqRoutingPlanes, KvmMemoryAttributes, KvmMsi, KvmRun, KvmRunPlanes, LAYOUTS, PlaneEvent2024, PlaneEvent2025, PlaneEvent2026,
} from '@vmplanes/abi-kvm-planes';
import { describe, expect, test } from 'vitest';

/** Typed by hand from the posted headers: name, offset, size of the value. */
const RUN_PLANES = {
  requestInterruptWindow: 0, immediateExit: 1, plane: 2, reservedHole: 3, suspendedPlanes: 4, reqExitPlanes: 6, exitReason: 8, readyForInterruptInjection: 12, ifFlag: 13, flags: 14, cr8: 16,
  apicBase: 24, exit: 32, kvmValidRegs: 288, kvmDirtyRegs: 296, s: 304,
};

describe('offsets of the posted headers', () => {
  test('kvm_run (RFC KVM: VM planes 02/29)', () => {
    expect(KvmRunPlanes.at).toEqual(RUN_PLANES);
    expect([KvmRunPlanes.size, KvmRunPlanes.fields.exit[1].size, KvmRunPlanes.fields.s[1].size]).toEqual([2352, 256, 2048]);
    expect([KvmRun.at.exitReason, KvmRun.at.exit, KvmRun.at.s, KvmRun.size]).toEqual([8, 32, 304, 2352]);
  });
  test('plane event payloads', () => {
    expect([PlaneEvent2024.at, PlaneEvent2024.size]).toEqual([{ pendingEventPlanes: 0, cause: 2, target: 3, flags: 4, extra: 8 }, 16]);
    expect([PlaneEvent2025.at, PlaneEvent2025.size]).toEqual([{ cause: 0, pendingEventPlanes: 2, target: 4, reservedPadding: 6, flags: 8, reservedHole: 12, extra: 16 }, 80]);
    expect([PlaneEvent2026.at, PlaneEvent2026.size]).toEqual([{ cause: 0, plane: 4, extra: 8 }, 72]);
    for (const profile of Object.values(LAYOUTS)) expect(profile.planeEvent.size).toBeLessThanOrEqual(256);
  });
  test('call arguments', () => {
    expect([KvmMsi.at, KvmMsi.size]).toEqual([{ addressLo: 0, addressHi: 4, data: 8, flags: 12, devid: 16, reservedPad: 20 }, 32]);
    expect([KvmMemoryAttributes.at, KvmMemoryAttributes.size]).toEqual([{ address: 0, size: 8, attributes: 16, flags: 24 }, 32]);
    expect([KvmEnableCap.at.args, KvmEnableCap.size]).toEqual([8, 104]);
    expect([KvmIrqRoutingEntryPlanes.at.plane, KvmIrqRoutingEntryPlanes.size, KvmIrqRoutingPlanes.sizeOf(2)]).toEqual([12, 48, 104]);
    expect(ExitMemoryFaultPlanes.at).toEqual({ flags: 0, gpa: 8, size: 16, plane: 24, instructionLength: 26, reserved: 27 });
  });
});

test('writing a plane event clears what was there before: padding, hole and extra words', () => {
  const page = new Uint8Array(2352).fill(0xff);
  const at = KvmRunPlanes.at.exit;
  PlaneEvent2025.write(new DataView(page.buffer), at, { cause: 1, pendingEventPlanes: 0b10, target: 0b10, flags: 0, extra: Array<bigint>(8).fill(0n) });
  expect([...page.subarray(at, at + 80)]).toEqual([1, 0, 2, 0, 2, 0, ...Array<number>(74).fill(0)]);
});
