import { HvCall } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { DATA, type Guest, mapIdentity, Msr, ready, SELF, target, VP_SELF } from './guest.ts';

// What the unit tests of openvmm check besides calls and returns: values of registers, maps of protected pages, queues of messages, timers.

const OK = 0, VALUE = 0x50;
const frame = DATA >> 12;

describe.each(policies)('under %s', (policy) => {
  const inVtl1 = (): Guest => {
    const guest = ready({ policy });
    guest.enter();
    return guest;
  };
  const lower = { vtl: target(0) } as const;

  // -- hardware_cvm: values of registers ------------------------------------------------------------------------------------------

  it.each([
    ['the last of the lower half', 0x7fff_ffff_ffffn, OK],
    ['the first behind it', 0x8000_0000_0000n, VALUE],
    ['the last before the upper half', 0xffff_7fff_ffff_ffffn, VALUE],
    ['the first of the upper half', 0xffff_8000_0000_0000n, OK],
    ['all ones', 0xffff_ffff_ffff_ffffn, OK],
    ['canonical with five levels alone', 0x00ff_ffff_ffff_ffffn, VALUE],
  ] as const)('openvmm hardware_cvm, canonical addresses with four levels: %s', (_what, value, status) => {
    const guest = inVtl1();
    for (const name of ['Lstar', 'Cstar', 'KernelGsBase', 'Rip'] as const) expect([name, guest.setReg(name, value, lower)]).toEqual([name, status]);
    expect(guest.setReg('Lstar', value)).toBe(status);
  });
  it.each(Array.from({ length: 10 }, (_, type) => [type, [0, 1, 4, 5, 6, 7].includes(type) ? OK : VALUE] as const))('openvmm hardware_cvm, PAT: memory type %i in any byte has status %i', (type, status) => {
    const guest = inVtl1();
    for (let byte = 0n; byte < 8n; byte++) {
      const value = (0x0007_0406_0007_0406n & ~(0xffn << (8n * byte))) | (BigInt(type) << (8n * byte));
      expect([byte, guest.setReg('Pat', value, lower)]).toEqual([byte, status]);
      expect(guest.reg('Pat', lower) === value).toBe(status === OK);
    }
  });
  it.each([['SCE', 0xd00n, OK], ['SCE set', 0xd01n, OK], ['bit 1', 0xd02n, VALUE], ['bit 9', 0xf00n, VALUE], ['bit 16', 0x1_0d00n, VALUE], ['bit 63', 0x8000_0000_0000_0d00n, VALUE]] as const)('openvmm hardware_cvm, EFER: %s', (_what, value, status) => {
    expect(inVtl1().setReg('Efer', value, lower)).toBe(status);
  });
  it.each([6n, 7n, 15n, 28n])('openvmm hardware_cvm, CR0: reserved bit %i of the lower half is dropped without a word', (place) => {
    const guest = inVtl1();
    expect([guest.setReg('Cr0', 0x8001_0011n | (1n << place), lower), guest.reg('Cr0', lower)]).toEqual([OK, 0x8001_0011n]);
  });
  it.each([32n, 45n, 63n])('openvmm hardware_cvm, CR0: bit %i of the upper half is refused', (place) => {
    expect(inVtl1().setReg('Cr0', 0x8001_0011n | (1n << place), lower)).toBe(VALUE);
  });
  it.each([15n, 19n, 29n, 31n, 32n, 63n])('openvmm hardware_cvm, CR4: bit %i that is not defined is refused', (place) => {
    const guest = inVtl1();
    expect([guest.setReg('Cr4', 0x620n | (1n << place), lower), guest.reg('Cr4', lower)]).toEqual([VALUE, 0x620n]);
  });
  it.each([['Pl0Ssp', 0x1004n, OK], ['Pl0Ssp', 0x1002n, VALUE], ['Pl1Ssp', 0x1001n, VALUE], ['Pl2Ssp', 0x1003n, VALUE], ['Pl3Ssp', 0x2000n, OK]] as const)('openvmm hardware_cvm, shadow-stack pointers are multiples of 4: %s = %i', (name, value, status) => {
    const guest = inVtl1();
    const now = guest.getReg(name, lower).status;
    // Where the processor has no shadow stacks there is no such register, aligned or not.
    expect(guest.setReg(name, value, lower)).toBe(now === OK ? status : now);
  });

  // -- underhill_mem: maps of protected pages -----------------------------------------------------------------------------------------

  it('openvmm underhill_mem: rights of overlapping ranges are those set last, page by page', () => {
    const guest = inVtl1();
    const pages = (first: number, count: number): readonly number[] => Array.from({ length: count }, (_, i) => frame + first + i);
    expect([guest.protect(0x1, ...pages(0, 10)).status, guest.protect(0x0, ...pages(5, 10)).status, guest.protect(0xf, ...pages(7, 1)).status, guest.protect(0x3, ...pages(0, 1)).status]).toEqual([OK, OK, OK, OK]);
    const check = guest.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: SELF, inputVtl: target(0), desiredAccess: 0xf }, elements: pages(0, 17).map(BigInt) });
    expect([check.status, check.reps]).toEqual([OK, 17]);
    const denied = pages(0, 17).map((_, i) => check.output(136).getUint8(8 * i + 1));
    const [none, r, rw, all] = [0xf, 0xe, 0xc, 0x0];
    expect(denied).toEqual([rw, r, r, r, r, none, none, all, none, none, none, none, none, none, none, all, all]);
    expect(pages(0, 17).map((_, i) => check.output(136).getUint8(8 * i))).toEqual(denied.map((d) => (d === 0 ? 0 : 1)));
  });
  it('openvmm underhill_mem: one page that is no memory, and no page changes behind it', () => {
    const guest = inVtl1();
    const call = guest.protect(0x1, frame, 0x8_0000, frame + 1);
    expect([call.status, call.reps]).toEqual([5, 1]);
    const check = guest.call(HvCall.CheckSparseGpaPageVtlAccess, { header: { partitionId: SELF, inputVtl: target(0), desiredAccess: 0x2 }, elements: [BigInt(frame), BigInt(frame + 1)] });
    expect([check.output(16).getUint8(0), check.output(16).getUint8(8)]).toEqual([1, 0]);
  });

  // -- virt_support_x86emu: who denies -------------------------------------------------------------------------------------------------

  it('openvmm virt_support_x86emu checkvtlaccess: an access that VTL2 denies names VTL2', () => {
    const guest = ready({ policy, options: { maximumVtl: 2 } });
    mapIdentity(guest);
    guest.enter();
    expect([guest.enablePartitionVtl(2), guest.enableVpVtl(VP_SELF, 2)]).toEqual([OK, OK]);
    guest.enter();
    guest.openInterface();
    guest.openApic();
    guest.openSynic();
    guest.put('VsmPartitionConfig', 0x3fn);
    expect(guest.call(HvCall.ModifyVtlProtectionMask, { header: { targetPartitionId: SELF, mapFlags: 1, targetVtl: target(2) }, elements: [BigInt(frame)] }).status).toBe(OK);
    guest.leave();
    guest.leave();
    const call = guest.call(HvCall.TranslateVirtualAddressEx, { header: { partitionId: SELF, vpIndex: VP_SELF, controlFlags: 2n, gvaPage: BigInt(frame) } });
    const view = call.output(64);
    expect([call.status, view.getUint32(0, true), view.getUint8(16), view.getUint8(17), view.getUint8(18)]).toEqual([OK, 8, 3, 2, 1]);
    guest.issue({ op: 'write', gpa: DATA, value: 1 });
    expect([guest.active(), guest.message(0, 2).getUint32(0, true), guest.message(0, 1).getUint32(0, true)]).toEqual([2, 0x8000_0001, 0]);
  });

  // -- hv1_emulator: queues and timers over a restore --------------------------------------------------------------------------------------

  const options = { ports: [{ connectionId: 7, kind: 'message', vp: 0, vtl: 0, sint: 3, baseFlag: 0, flagCount: 0, minConnectionVtl: 0 }, { connectionId: 8, kind: 'message', vp: 0, vtl: 0, sint: 4, baseFlag: 0, flagCount: 0, minConnectionVtl: 0 }] } as const;
  const restored = (from: Guest): Guest => {
    const to = ready({ policy, options });
    for (const [name, chapter] of [['synic', to.hv.chapters.synic], ['timers', to.hv.chapters.timers]] as const) chapter.restore((structuredClone(from.hv.save()) as Record<string, never>)[name]!);
    to.machine.timersChanged(to.context());
    return to;
  };
  const post = (guest: Guest, connectionId: number, type: number): number =>
    guest.call(HvCall.PostMessage, { header: { connectionId, messageType: type, payloadSize: 0, payload: new Uint8Array(240) } }).status;
  /** Types of the messages that the slots give one after the other. */
  const drained = (guest: Guest, sint: number): number[] => {
    const types: number[] = [];
    for (let type = guest.message(0, 0, sint).getUint32(0, true); type !== 0; type = guest.message(0, 0, sint).getUint32(0, true)) {
      types.push(type);
      guest.takeMessage(0, 0, sint);
      guest.wrmsr(Msr.eom, 0);
    }
    return types;
  };
  it('openvmm hv1_emulator message_queues: messages of a SINT keep their order, SINTs do not wait for each other, also after a restore', () => {
    const guest = ready({ policy, options });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    guest.wrmsr(Msr.sint0 + 4, 0x74);
    for (const [connection, type] of [[7, 0x31], [7, 0x32], [8, 0x41], [7, 0x33], [8, 0x42]] as const) expect(post(guest, connection, type)).toBe(OK);
    const other = restored(guest);
    // The slots are guest memory, which a restore brings back, too.
    for (const sint of [3, 4]) other.poke(0, 0xa_3000 + 256 * sint, new Uint8Array(guest.message(0, 0, sint).buffer));
    for (const each of [guest, other]) {
      expect(drained(each, 4)).toEqual([0x41, 0x42]);
      expect(drained(each, 3)).toEqual([0x31, 0x32, 0x33]);
    }
  });
  const now = (guest: Guest): bigint => guest.rdmsr(0x4000_0020);
  const direct = (guest: Guest, config: bigint, count: bigint): void => {
    guest.wrmsr(Msr.stimer0 + 1, count);
    guest.wrmsr(Msr.stimer0, 0x1000n | (0x77n << 4n) | config);
  };
  it('openvmm hv1_emulator synic: a restored one-shot timer keeps its absolute deadline', () => {
    const guest = ready({ policy, options });
    const due = now(guest) + 400n;
    direct(guest, 1n, due);
    const other = restored(guest);
    while (now(other) < due - 5n) expect(other.requested(0x77)).toBe(false);
    other.run(20);
    expect([other.requested(0x77), other.rdmsr(Msr.stimer0) & 1n]).toEqual([true, 0n]);
  });
  it('openvmm hv1_emulator synic: a restored timer that had expired is served', () => {
    const guest = ready({ policy, options });
    const due = now(guest) + 40n;
    direct(guest, 1n, due);
    expect(guest.requested(0x77)).toBe(false);
    const saved = structuredClone(guest.hv.chapters.timers.save());
    const other = ready({ policy, options });
    while (now(other) < due + 200n) other.run(20);
    other.hv.chapters.timers.restore(saved);
    other.machine.timersChanged(other.context());
    other.run(5);
    expect(other.requested(0x77)).toBe(true);
  });
  it('openvmm hv1_emulator synic: a restored periodic timer goes on in its rhythm', () => {
    const guest = ready({ policy, options });
    direct(guest, 3n, 100n);
    const start = now(guest);
    const other = restored(guest);
    other.interruptFlag(true);
    while (now(other) < start + 560n) other.run(1);
    expect(other.taken().filter((v) => v === 0x77).length).toBeGreaterThanOrEqual(4);
    expect(other.taken().filter((v) => v === 0x77).length).toBeLessThanOrEqual(5);
    expect(other.reg('Stimer0Config') & 1n).toBe(1n);
  });
});
