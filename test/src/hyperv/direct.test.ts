import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { booted, type Guest, Msr, ready, SELF, siefPage, simPage, target, VP_SELF } from './guest.ts';

// What a higher VTL tells a lower one without a port, what it asks to be told, and where devices interrupt.

type Options = NonNullable<BenchConfig['options']>;
const OK = 0, INPUT = 3, PARAMETER = 5, DENIED = 6, PARTITION = 0xd, VP = 0xe, SYNIC = 0x18, IN_USE = 0x19, FEATURE = 0x1e, VALUE = 0x50, VTL_STATE = 0x51, DEVICE = 0x57;
const hexOf = (view: DataView): string => Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('hex').replace(/(.{32})/g, '$1\n');

describe.each(policies)('under %s', (policy) => {
  const inVtl1 = (vps = 1, options: Options = {}): Guest => {
    const guest = ready({ policy, vps, options });
    guest.enter();
    return guest;
  };

  // -- DeliverabilityNotifications -----------------------------------------------------------------------------------------------

  const NMI = 1n, INTERRUPT = 2n;
  const priority = (n: number): bigint => BigInt(n) << 2n;
  const sint = (n: number): bigint => 1n << BigInt(48 + n);
  const ask = (guest: Guest, value: bigint): void => guest.put('DeliverabilityNotifications', value, { vtl: target(0) });
  const asked = (guest: Guest): bigint => guest.reg('DeliverabilityNotifications', { vtl: target(0) });
  /** A message of VTL1 as hvdef lays it out: 40 bytes of header, then one field. @param state - execution state. */
  const told = (guest: Guest, type: number, field: number, state = 0b1_0100): string => {
    const view = new DataView(new ArrayBuffer(256));
    view.setUint32(0, type, true);
    view.setUint8(4, 0x30);
    const cr8 = guest.apic(0, 0).cr8;
    view.setUint8(20, cr8 << 4);
    view.setUint8(21, 2);
    view.setUint16(22, state, true);
    view.setUint32(32, 0xffff_ffff, true);
    view.setUint16(36, 8, true);
    view.setUint16(38, 0xa09b, true);
    view.setBigUint64(40, guest.get('rip', 0, 0), true);
    view.setBigUint64(48, guest.get('rflags', 0, 0), true);
    view.setUint32(56, field, true);
    return hexOf(view);
  };
  it('openvmm hvdef, DeliverabilityNotifications: an interrupt can be delivered once VTL0 sets its flag; VTL1 is told, as a whole, and only once', () => {
    const guest = inVtl1();
    ask(guest, INTERRUPT);
    expect(asked(guest)).toBe(INTERRUPT);
    guest.leave();
    guest.run(4);
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([0, 0]);
    guest.plain({ op: 'sti' });
    guest.run(3);
    expect([guest.active(), guest.entryReason(), hexOf(guest.message())]).toEqual([1, 2, told(guest, 0x8001_0008, 0)]);
    expect(asked(guest)).toBe(0n);
    guest.takeMessage();
    guest.interruptFlag(true);
    guest.run(3);
    guest.leave(0, 0n);
    guest.run(4);
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([0, 0]);
  });
  it.each([[5, 6, 0], [6, 5, 1], [6, 6, 0], [15, 14, 1]] as const)('openvmm hvdef, DeliverabilityNotifications: priority %i while CR8 is %i: VTL%i runs', (asks, cr8, active) => {
    const guest = inVtl1();
    ask(guest, INTERRUPT | priority(asks));
    guest.leave();
    guest.plain({ op: 'mov', to: 'cr8', value: cr8 });
    guest.plain({ op: 'sti' });
    guest.run(3);
    expect(guest.active()).toBe(active);
    if (active === 1) expect(hexOf(guest.message())).toBe(told(guest, 0x8001_0008, 0));
  });
  it('openvmm hvdef, DeliverabilityNotifications: priority waits until CR8 is lowered', () => {
    const guest = inVtl1();
    ask(guest, INTERRUPT | priority(4));
    guest.leave();
    guest.plain({ op: 'mov', to: 'cr8', value: 9 });
    guest.plain({ op: 'sti' });
    guest.run(3);
    guest.issue({ op: 'mov', to: 'cr8', value: 3 });
    guest.run(3);
    expect(guest.active()).toBe(1);
  });
  it('openvmm hvdef, DeliverabilityNotifications: an NMI can be delivered at once, whatever the interrupt flag says', () => {
    const guest = inVtl1();
    ask(guest, NMI);
    guest.vtlReturn();
    guest.run(3);
    expect([guest.active(), hexOf(guest.message()), asked(guest)]).toEqual([1, told(guest, 0x8001_0008, 2), 0n]);
  });
  it('openvmm hvdef, DeliverabilityNotifications: no NMI while VTL0 is in the handler of one', () => {
    const guest = inVtl1();
    ask(guest, NMI);
    guest.put('InterruptState', 2n, { vtl: target(0) });
    guest.leave();
    guest.run(3);
    expect(guest.active()).toBe(0);
    guest.set({ 'nmi.blocked': 0 });
    guest.run(3);
    expect(guest.active()).toBe(1);
  });
  it('openvmm hvdef, DeliverabilityNotifications: a SINT is ready once its slot is free; the message names it', () => {
    const guest = ready({ policy });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    guest.poke(0, simPage(0, 0) + 3 * 256, new Uint8Array([1]));
    guest.enter();
    ask(guest, sint(3) | sint(5));
    guest.leave();
    guest.run(3);
    expect(guest.active()).toBe(0);
    guest.poke(0, simPage(0, 0) + 3 * 256, new Uint8Array([0]));
    guest.issue({ op: 'wrmsr', index: Msr.eom, value: 0 });
    guest.run(3);
    expect([guest.active(), hexOf(guest.message())]).toEqual([1, told(guest, 0x8000_0062, 1 << 3)]);
    // The other, masked, is still asked about.
    expect(asked(guest)).toBe(sint(5));
  });
  it('openvmm hvdef, DeliverabilityNotifications: a SINT that is ready already is told of at the next entry of VTL0', () => {
    const guest = ready({ policy });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    guest.enter();
    ask(guest, sint(3));
    guest.vtlReturn();
    guest.run(3);
    expect([guest.active(), hexOf(guest.message())]).toEqual([1, told(guest, 0x8000_0062, 1 << 3)]);
  });
  it('openvmm hvdef, DeliverabilityNotifications: a second write replaces the first; nothing is asked any more', () => {
    const guest = inVtl1();
    ask(guest, NMI | INTERRUPT);
    ask(guest, 0n);
    guest.leave();
    guest.plain({ op: 'sti' });
    guest.run(3);
    expect(guest.active()).toBe(0);
  });
  it.each([
    ['its own VTL', 1n, 1, PARAMETER],
    ['reserved bits', 1n << 6n, 0, VALUE],
    ['reserved bits below the SINTs', 1n << 47n, 0, VALUE],
  ] as const)('openvmm hvdef, DeliverabilityNotifications: %s', (_what, value, vtl, status) => {
    expect(inVtl1().setReg('DeliverabilityNotifications', value, { vtl: target(vtl) })).toBe(status);
  });
  it('openvmm hvdef, DeliverabilityNotifications: VTL0 has nobody to ask about', () => {
    expect([booted({ policy }).setReg('DeliverabilityNotifications', 1n), booted({ policy }).getReg('DeliverabilityNotifications').status]).toEqual([PARAMETER, PARAMETER]);
  });

  // -- HvCallPostMessageDirect ---------------------------------------------------------------------------------------------------

  interface Direct {
    readonly partition?: bigint;
    readonly vp?: number;
    readonly vtl?: number;
    readonly sint?: number;
    readonly flag?: number;
  }
  const message = new Uint8Array(256).map((_, i) => (i < 4 ? 0x11 * (i + 1) : i === 4 ? 8 : i === 5 ? 0 : i & 0xff));
  const post = (guest: Guest, { partition = SELF, vp = 0, vtl = 0, sint: n = 3 }: Direct = {}, fast = false): number => {
    const view = new DataView(new ArrayBuffer(280));
    view.setBigUint64(0, partition, true);
    view.setUint32(8, vp, true);
    view.setUint8(12, vtl);
    view.setUint8(16, n);
    new Uint8Array(view.buffer).set(message, 20);
    return guest.callRaw(0xc1, new Uint8Array(view.buffer), { fast }).status;
  };
  const signal = (guest: Guest, { partition = SELF, vp = 0, vtl = 0, sint: n = 3, flag = 9 }: Direct = {}): readonly [status: number, isNew: number] => {
    const view = new DataView(new ArrayBuffer(16));
    view.setBigUint64(0, partition, true);
    view.setUint32(8, vp, true);
    view.setUint8(12, vtl);
    view.setUint8(13, n);
    view.setUint16(14, flag, true);
    const call = guest.callRaw(0xc0, new Uint8Array(view.buffer));
    return [call.status, call.output(8).getUint8(0)];
  };
  /** VTL0 listens on SINT 3 of all VPs, VTL1 is active. */
  const listening = (vps = 1, options: Options = {}): Guest => {
    const guest = ready({ policy, vps, options });
    for (let vp = 0; vp < vps; vp++) guest.wrmsr(Msr.sint0 + 3, 0x73, vp);
    guest.enter();
    return guest;
  };
  it('openvmm hvdef, HvCallPostMessageDirect: the message is in the slot as it was given, and its interrupt waits in VTL0', () => {
    const guest = listening();
    expect(post(guest)).toBe(OK);
    expect(hexOf(guest.message(0, 0, 3))).toBe(hexOf(new DataView(message.buffer)));
    expect([guest.requested(0x73, 0, 0), guest.active()]).toEqual([true, 1]);
    guest.interruptFlag(true, 0, 0);
    guest.leave();
    guest.run(3);
    expect(guest.taken(0, 0)).toEqual([0x73]);
  });
  it('openvmm hvdef, HvCallPostMessageDirect: to another VP, by its index', () => {
    const guest = listening(2);
    expect(post(guest, { vp: 1 })).toBe(OK);
    expect([guest.message(1, 0, 3).getUint32(0, true), guest.message(0, 0, 3).getUint32(0, true), guest.requested(0x73, 1, 0)]).toEqual([0x4433_2211, 0, true]);
  });
  it('openvmm hvdef, HvCallPostMessageDirect: a slot in use keeps its message, which says that more wait', () => {
    const guest = listening();
    guest.poke(0, simPage(0, 0) + 3 * 256, new Uint8Array([1]));
    expect(post(guest)).toBe(IN_USE);
    expect([guest.message(0, 0, 3).getUint32(0, true), guest.message(0, 0, 3).getUint8(5)]).toEqual([1, 1]);
    // There is no buffer behind it.
    guest.poke(0, simPage(0, 0) + 3 * 256, new Uint8Array([0]));
    guest.leave();
    guest.wrmsr(Msr.eom, 0);
    expect(guest.message(0, 0, 3).getUint32(0, true)).toBe(0);
  });
  const refused: readonly (readonly [string, Direct, number])[] = [
    ['another partition', { partition: 42n }, DENIED],
    ['the invalid partition', { partition: 0n }, DENIED],
    ['a VP that does not exist', { vp: 1 }, VP],
    ['any VP', { vp: 0xffff_ffff }, VP],
    ['its own VTL', { vtl: 1 }, DENIED],
    ['a VTL above the highest', { vtl: 2 }, PARAMETER],
    ['SINT 16', { sint: 16 }, PARAMETER],
    ['SINT 255', { sint: 255 }, PARAMETER],
    ['a masked SINT', { sint: 4 }, SYNIC],
    ['the calling VP', { vp: VP_SELF }, OK],
  ];
  it.each(refused)('openvmm hvdef, HvCallPostMessageDirect: %s', (_what, over, status) => {
    expect(post(listening(), over)).toBe(status);
  });
  it.each(refused)('openvmm hvdef, HvCallSignalEventDirect: %s', (_what, over, status) => {
    expect(signal(listening(), over)).toEqual([status, status === OK ? 1 : 0]);
  });
  it('openvmm hvdef, direct calls: VTL0 has nobody below', () => {
    const guest = ready({ policy });
    expect([post(guest), signal(guest)[0]]).toEqual([DENIED, DENIED]);
  });
  it('openvmm hvdef, direct calls: without AccessVsm', () => {
    const guest = booted({ policy, options: { withhold: ['accessVsm'] } });
    expect([post(guest), signal(guest)[0]]).toEqual([DENIED, DENIED]);
  });
  it('openvmm hvdef, direct calls: a VTL that the VP has not', () => {
    const guest = ready({ policy, vps: 2, secure: 1, options: { maximumVtl: 2 } });
    guest.enter();
    expect([guest.enablePartitionVtl(2), guest.enableVpVtl(VP_SELF, 2)]).toEqual([OK, OK]);
    guest.enter();
    guest.openInterface();
    expect([post(guest, { vp: 1, vtl: 1 }), signal(guest, { vp: 1, vtl: 1 })[0], post(guest, { vp: 0, vtl: 1, sint: 0 })]).toEqual([VTL_STATE, VTL_STATE, OK]);
    expect(guest.message(0, 1, 0).getUint32(0, true)).toBe(0x4433_2211);
  });
  it('openvmm hvdef, HvCallPostMessageDirect: never in registers, its block is larger', () => {
    expect(post(listening(), {}, true)).toBe(INPUT);
  });
  it('openvmm hvdef, HvCallSignalEventDirect: the flag is set and interrupts while it was clear', () => {
    const guest = listening();
    expect([signal(guest), signal(guest), signal(guest, { flag: 2047 })]).toEqual([[OK, 1], [OK, 0], [OK, 1]]);
    const flags = guest.peek(0, siefPage(0, 0) + 3 * 256, 256);
    expect([flags.getUint32(0, true), flags.getUint8(255)]).toEqual([1 << 9, 0x80]);
    expect(guest.requested(0x73, 0, 0)).toBe(true);
  });
  it('openvmm hvdef, HvCallSignalEventDirect: flag 2048', () => {
    expect(signal(listening(), { flag: 2048 })).toEqual([PARAMETER, 0]);
  });
  it.each([['SCONTROL', Msr.scontrol], ['SIEFP', Msr.siefp]] as const)('openvmm hvdef, HvCallSignalEventDirect: VTL0 without %s', (_name, index) => {
    const guest = ready({ policy });
    guest.wrmsr(Msr.sint0 + 3, 0x73);
    guest.wrmsr(index, 0);
    guest.enter();
    expect(signal(guest)).toEqual([SYNIC, 0]);
  });

  // -- HvCallRetargetDeviceInterrupt ------------------------------------------------------------------------------------------------

  interface Retarget {
    readonly partition?: bigint;
    readonly device?: bigint;
    readonly source?: number;
    readonly vector?: number;
    readonly flags?: number;
    readonly mask?: bigint;
    readonly banks?: readonly bigint[];
  }
  const ADDRESS = 0xfee0_1000, DATA = 0x4123;
  const retarget = (guest: Guest, { partition = SELF, device = 7n, source = 1, vector = 0x61, flags = 0, mask = 2n, banks }: Retarget = {}, fast = false): number => {
    const view = new DataView(new ArrayBuffer(56 + 8 * (banks?.length ?? 0)));
    view.setBigUint64(0, partition, true);
    view.setBigUint64(8, device, true);
    [source, 0, ADDRESS, DATA].forEach((word, i) => view.setUint32(16 + 4 * i, word, true));
    view.setUint32(40, vector, true);
    view.setUint32(44, flags, true);
    view.setBigUint64(48, mask, true);
    banks?.forEach((bank, i) => view.setBigUint64(56 + 8 * i, bank, true));
    return guest.callRaw(0x7e, new Uint8Array(view.buffer), { units: banks?.length ?? 0, fast }).status;
  };
  const three = (over: Options = {}): Guest => booted({ policy, vps: 3, options: { devices: [7], ...over } });
  /** Interrupts of the device; VPs that have it then. */
  const interrupted = (guest: Guest, vector = 0x61): readonly number[] => {
    expect(guest.hv.chapters.hypercalls.devices.signal(7, 0, ADDRESS, DATA)).toBe(true);
    guest.run(2);
    return [0, 1, 2].filter((vp) => guest.requested(vector, vp, 0));
  };
  it.each([
    ['one VP', { mask: 2n }, [1]],
    ['several: one of them', { mask: 6n }, [1]],
    ['several, multicast: all', { mask: 6n, flags: 1 }, [1, 2]],
    ['VPs that do not exist, too', { mask: 0xff00_0000_0000_0004n }, [2]],
    ['a set', { flags: 2, mask: 0n, banks: [1n, 4n] }, [2]],
    ['a set, multicast', { flags: 3, mask: 0n, banks: [1n, 5n] }, [0, 2]],
    ['a set with a bank of VPs that do not exist', { flags: 3, mask: 0n, banks: [3n, 1n, 1n] }, [0]],
    ['an entry of an I/O APIC', { source: 2, mask: 1n }, [0]],
  ] as const)('TLFS HvCallRetargetDeviceInterrupt: %s', (_what, over, vps) => {
    const guest = three();
    expect(retarget(guest, over)).toBe(OK);
    expect(interrupted(guest)).toEqual(vps);
  });
  it('TLFS HvCallRetargetDeviceInterrupt: the last one counts, with its vector; before the first the device is unknown', () => {
    const guest = three();
    expect(guest.hv.chapters.hypercalls.devices.signal(7, 0, ADDRESS, DATA)).toBe(false);
    expect([retarget(guest), retarget(guest, { mask: 4n, vector: 0xff }, true)]).toEqual([OK, OK]);
    expect([interrupted(guest, 0xff), guest.requested(0x61, 1, 0)]).toEqual([[2], false]);
  });
  it('TLFS Virtual Secure Mode: interrupts of devices are for VTL0, also while VTL1 runs', () => {
    const guest = ready({ policy, vps: 2, options: { devices: [7] } });
    expect(retarget(guest, { mask: 2n })).toBe(OK);
    guest.enter(1);
    guest.interruptFlag(true, 1);
    guest.hv.chapters.hypercalls.devices.signal(7, 0, ADDRESS, DATA);
    guest.run(3);
    expect([guest.active(1), guest.taken(1, 1), guest.requested(0x61, 1, 0)]).toEqual([1, [], true]);
  });
  it.each([
    ['another partition', { partition: 42n }, PARTITION],
    ['a device that is not there', { device: 8n }, DEVICE],
    ['a device with a number of 64 bits', { device: 7n | (1n << 32n) }, DEVICE],
    ['a source that does not exist', { source: 3 }, PARAMETER],
    ['vector 15', { vector: 15 }, PARAMETER],
    ['vector 256', { vector: 256 }, PARAMETER],
    ['redirection by proxy', { flags: 4 }, FEATURE],
    ['an unknown flag', { flags: 8 }, PARAMETER],
    ['no VPs', { mask: 0n }, PARAMETER],
    ['VPs that do not exist alone', { mask: 8n }, PARAMETER],
    ['a set of an unknown format', { flags: 2, mask: 2n, banks: [1n, 1n] }, PARAMETER],
    ['a set with fewer banks than it says', { flags: 2, mask: 0n, banks: [3n, 1n] }, PARAMETER],
    ['a set with more banks than it says', { flags: 2, mask: 0n, banks: [1n, 1n, 1n] }, PARAMETER],
  ] as const)('TLFS HvCallRetargetDeviceInterrupt: %s', (_what, over, status) => {
    const guest = three();
    expect(retarget(guest, over)).toBe(status);
    expect(guest.hv.chapters.hypercalls.devices.signal(7, 0, ADDRESS, DATA)).toBe(false);
  });
});
