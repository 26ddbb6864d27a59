import { Activity, ClaimTable, highestPlane, LowestRunnablePolicy, lowestPlane, MAX_PLANES, type PlaneContext, PlaneId, Schedule, VpIndex } from '@vmplanes/engine';
import { DeliveryMode, encodeMessage } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { calls, generator, Puppet, rigOf, risingPlanes } from './rig.ts';

const hlt = { op: 'hlt' } as const;
const work = { op: 'work' } as const;
const call = { op: 'call' } as const;
const handled = [{ op: 'eoi' }] as const;

describe('planes of a VP', () => {
  it('plane 0 always exists and no plane is made twice (LKML 20250401 09/29)', () => {
    const { machine, vps } = rigOf({ guests: [{ 1: [] }] });
    expect(() => machine.createPlane(vps[0]!, PlaneId(0))).toThrow(expect.objectContaining({ code: 'ExistsAlready' }));
    expect(() => machine.createPlane(vps[0]!, PlaneId(1))).toThrow(expect.objectContaining({ code: 'ExistsAlready' }));
    expect(() => machine.createPlane(vps[0]!, PlaneId(4))).toThrow(expect.objectContaining({ code: 'NoSuchPlane' }));
    expect(() => machine.createVp()).toThrow(expect.objectContaining({ code: 'BadState' }));
    expect(() => PlaneId(MAX_PLANES)).toThrow(RangeError);
    expect(() => VpIndex(64)).toThrow(RangeError);
    expect(() => vps[0]!.plane(2)).toThrow(expect.objectContaining({ code: 'NoSuchPlane' }));
    expect(() => machine.vp(1)).toThrow(expect.objectContaining({ code: 'NoSuchVp' }));
  });

  it('sets of planes may differ between VPs; a message for a plane that a VP has not finds nobody (LKML 20250401 01/29)', () => {
    const rig = rigOf({ guests: [{ 0: [hlt], 1: [] }, { 0: [hlt] }, { 0: [hlt], 3: [] }, { 0: [hlt], 1: [] }] });
    expect(rig.vps.map((vp) => vp.existing)).toEqual([0b11, 0b1, 0b1001, 0b11]);
    expect([rig.msi(0, 1, 0x40), rig.msi(1, 1, 0x40), rig.msi(2, 1, 0x40), rig.msi(2, 3, 0x40), rig.msi(0, 2, 0x40)].map((n) => Math.sign(n))).toEqual([1, -1, -1, 1, -1]);
    expect(rig.machine.send(1, 1, encodeMessage(DeliveryMode.fixed, 0x40, true, false), 0)).toBe(0);
    // All but self stays inside the plane and reaches only who has it.
    rig.arch.fabric.sendIpi(rig.arch.apicOf(rig.vps[0]!.plane(1)), 0xc0055, 0);
    expect(rig.arch.apicOf(rig.vps[3]!.plane(1)).highestIrr()).toBe(0x55);
    expect(rig.vps.map((vp) => rig.arch.apicOf(vp.plane(0)).highestIrr())).toEqual([-1, -1, -1, -1]);
    expect(rig.arch.apicOf(rig.vps[0]!.plane(1)).highestIrr()).toBe(0x40);
  });

  it('may be made while the VP runs, by a handler, and asked about at once (TLFS HvCallEnableVpVtl)', () => {
    const rig = rigOf({
      policy: 'userspace',
      claims: calls,
      on: (c) => {
        const made = rig.machine.createPlane(c.vp, PlaneId(1));
        rig.arch.apicOf(made).writeSvr(0x1ff);
        rig.arch.apicOf(made).writeApicBase(0xfee00d00, 0, true);
        rig.msi(0, 1, 0x80);
        return c.vp.replies.resume();
      },
      guests: [{ 0: [call, work, hlt] }],
    });
    rig.vps[0]!.asked = 0b10;
    expect(rig.kind()).toBe('exit');
    expect(rig.vps[0]!.exit).toMatchObject({ kind: 'planeEvent', pending: 0b10, target: 0b10 });
    expect(rig.vps[0]!.plane(1).schedule).toBe(Schedule.Stopped);
  });

  it('a new plane has the shared registers of its VP and nobody sees half of it (LKML 20250401 13/29)', () => {
    const rig = rigOf({ meaning: risingPlanes, guests: [{ 0: [{ op: 'work', regs: { rbx: 77, cr3: 0x5000 } }, hlt] }] });
    rig.run();
    const seen: number[] = [];
    rig.machine.hooks.preemption = { at: (point) => { if (point === 'create:built') seen.push(rig.machine.send(0, 1, encodeMessage(DeliveryMode.nmi, 0, true, false), 0)); } };
    const made = rig.machine.createPlane(rig.vps[0]!, PlaneId(1));
    expect(seen).toEqual([0]);
    expect([rig.get(0, 1, 'rbx'), rig.get(0, 1, 'cr3'), made.events.deliverable()]).toEqual([77n, 0n, false]);
  });
});

describe('sharing', () => {
  const pingPong = { claims: calls, on: (c: PlaneContext) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped') };

  it('a shared register of a stopped plane reads as the value of the VP, a private one as its own (TLFS, Virtual Secure Mode: shared and private state)', () => {
    const rig = rigOf({ meaning: risingPlanes, ...pingPong, guests: [{ 0: [{ op: 'call', regs: { rbx: 1, rsp: 0x100 } }, { op: 'work', regs: { rbx: 3, rsp: 0x101 } }, hlt], 1: [{ op: 'call', regs: { rbx: 2, rsp: 0x200 } }] }] });
    rig.run();
    expect([rig.get(0, 0, 'rbx'), rig.get(0, 1, 'rbx')]).toEqual([3n, 3n]);
    expect([rig.get(0, 0, 'rsp'), rig.get(0, 1, 'rsp')]).toEqual([0x101n, 0x200n]);
    expect(rig.switches[0]).toEqual(['0>1 call', '1>0 call']);
  });

  it.each([1, 2, 7])('TSC_AUX stays with its plane over %i round trips (OpenVMM #177)', (trips) => {
    const seen: bigint[] = [];
    const guest = (value: number) => generator(`aux${value}`, function* () {
      yield { op: 'wrmsr', index: 0xc0000103, value };
      for (let i = 0; i < trips; i++) {
        yield call;
        seen.push((yield { op: 'rdmsr', index: 0xc0000103 }).edxEax);
      }
    });
    const rig = rigOf({ meaning: risingPlanes, ...pingPong, guests: [{ 0: guest(7), 1: guest(0x51) }] });
    rig.run();
    expect(seen).toEqual(Array.from({ length: trips * 2 - 1 }, (_, i) => (i % 2 === 0 ? 7n : 0x51n)));
  });

  it('CR2 and XMM0 are those last stored by any plane, also over a restore in between (OpenVMM #3584)', () => {
    const make = () => rigOf({ meaning: risingPlanes, ...pingPong, guests: [{ 0: { id: 'zero', steps: [{ op: 'work', regs: { cr2: 0xa, xmm0: 0xb } }, call, hlt] }, 1: { id: 'one', steps: [{ op: 'work', regs: { xmm0: 0xc } }, call] } }] });
    const rig = make();
    rig.run(1);
    const other = make();
    other.machine.restore(structuredClone(rig.machine.snapshot()));
    for (const r of [rig, other]) expect([r.get(0, 0, 'cr2'), r.get(0, 1, 'cr2'), r.get(0, 0, 'xmm0'), r.get(0, 1, 'xmm0')]).toEqual([0xan, 0xan, 0xcn, 0xcn]);
  });

  it('PKRU is private even where the floating-point unit is shared (LKML 20250401 21/29)', () => {
    const rig = rigOf({ meaning: risingPlanes, guests: [{ 0: [], 1: [] }] });
    rig.set(0, 0, 'pkru', 0xffff_ffffn);
    rig.set(0, 1, 'pkru', 0x5555_5555n);
    expect([rig.get(0, 0, 'pkru'), rig.get(0, 1, 'pkru')]).toEqual([0xffff_ffffn, 0x5555_5555n]);
  });

  it('a declaration that names no register is refused and changes nothing', () => {
    const rig = rigOf({ guests: [] });
    const { meaning } = rig.machine;
    expect(() => rig.machine.setMeaning({ ...risingPlanes, sharing: { shared: ['nothing'] } })).toThrow(expect.objectContaining({ code: 'BadConfig' }));
    expect(rig.machine.meaning).toBe(meaning);
    rig.machine.createVp();
    expect(() => rig.machine.setMeaning(risingPlanes)).toThrow(expect.objectContaining({ code: 'BadState' }));
  });
});

describe('halted planes wake across planes (LKML 20250401 25/29; flaws H1 to H8)', () => {
  it('userspace: a halted plane, a message for an asked plane: plane event; for one that is not asked: it stays blocked', () => {
    const rig = rigOf({ policy: 'userspace', guests: [{ 0: [hlt], 1: [hlt], 2: [hlt] }] });
    const vp = rig.vps[0]!;
    vp.asked = 0b10;
    expect(rig.kind()).toBe('idle');
    rig.msi(0, 2, 0x40);
    expect(rig.kind()).toBe('idle');
    rig.msi(0, 1, 0x40);
    expect(rig.kind()).toBe('exit');
    expect(vp.exit).toMatchObject({ kind: 'planeEvent', pending: 0b110, target: 0b10 });
    expect(vp.context.activity).toBe(Activity.Halted);
    expect(vp.statistics.planeEvents).toBe(1);
    vp.immediateExit = true;
    expect(rig.kind()).toBe('interrupted');
  });

  it.each([
    ['highest-runnable', 0, 1],
    ['lowest-runnable', 1, 0],
  ] as const)('%s: plane %i halts, an interrupt for plane %i preempts it', (policy, from, to) => {
    const taken: string[] = [];
    const listener = (id: string) => generator(id, function* () { yield { op: 'sti' }; yield hlt; yield hlt; }, function* (vector) { taken.push(`${id} ${vector}`); yield { op: 'eoi' }; });
    const rig = rigOf({ policy, guests: [{ 0: listener('zero'), 1: listener('one') }] });
    const vp = rig.vps[0]!;
    vp.setSchedule(vp.plane(from), Schedule.Runnable);
    vp.setSchedule(vp.plane(to), Schedule.Stopped);
    rig.run();
    expect([vp.current, vp.context.activity]).toEqual([from, Activity.Halted]);
    rig.msi(0, to, 0x70);
    expect(rig.kind()).toBe('idle');
    // A plane that has not run yet takes it once it sets the interrupt flag: preemption does not look at it.
    expect([vp.current, taken]).toEqual([to, [to === 1 ? 'one 112' : 'zero 112']]);
    expect(rig.switches[0]!.at(-1)).toBe(`${from}>${to} event`);
  });

  it.each([
    ['highest-runnable', 1, 0],
    ['lowest-runnable', 0, 1],
  ] as const)('%s: plane %i halted, an interrupt for plane %i waits', (policy, from, to) => {
    const rig = rigOf({ policy, guests: [{ 0: [hlt], 1: [hlt] }] });
    const vp = rig.vps[0]!;
    vp.setSchedule(vp.plane(from), Schedule.Runnable);
    vp.setSchedule(vp.plane(to), Schedule.Stopped);
    rig.run();
    rig.msi(0, to, 0x70);
    expect(rig.kind()).toBe('idle');
    expect([vp.current, vp.pending]).toEqual([from, 1 << to]);
  });

  it('the timer of a suspended plane preempts at its very tick (flaw H6; LKML 20250401 25/29)', () => {
    const rig = rigOf({ claims: calls, on: (c) => c.vp.replies.switchTo(0, 'return', 'stopped'), guests: [{ 0: [{ op: 'jump', to: 0 }], 1: [{ op: 'apicWrite', register: 0x3e, value: 0xb }, { op: 'apicWrite', register: 0x32, value: 0x61 }, { op: 'apicWrite', register: 0x38, value: 250 }, call, { op: 'sti' }, hlt] }] });
    const vp = rig.vps[0]!;
    vp.setSchedule(vp.plane(1), Schedule.Runnable);
    let at = -1;
    rig.machine.on('plane-switch', (e) => { if (e.reason === 'event') at = e.time; });
    rig.run(10);
    expect(rig.switches[0]).toEqual(['0>1 selected', '1>0 return', '0>1 event']);
    // Started by the third instruction.
    expect(at).toBe(253);
  });

  it('several planes pending: the highest first; masked by its own priority it waits (TLFS)', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'jump', to: 0 }], 1: [hlt], 2: [hlt] }] });
    const vp = rig.vps[0]!;
    rig.arch.apicOf(vp.plane(2)).setTpr(0x70);
    rig.run(1);
    rig.msi(0, 1, 0x60);
    rig.msi(0, 2, 0x60);
    rig.run(1);
    expect(rig.switches[0]).toEqual(['0>1 event']);
    rig.arch.apicOf(vp.plane(2)).setTpr(0);
    rig.run(1);
    expect(rig.switches[0]).toEqual(['0>1 event', '1>2 event']);
  });

  it('STI; HLT: no interrupt between the two, and the halt ends at once (SDM 2B STI)', () => {
    const order: string[] = [];
    const rig = rigOf({ options: { quantum: 1 }, guests: [{ 0: generator('g', function* () {
      yield { op: 'sti' };
      order.push('sti done');
      yield hlt;
      yield work;
      order.push('work done');
    }, function* (vector) { order.push(`vector ${vector}`); yield { op: 'eoi' }; }) }] });
    rig.msi(0, 0, 0x33);
    rig.run();
    expect(order).toEqual(['sti done', 'vector 51', 'work done']);
  });

  it('a pending interrupt that may not be taken yet does not end a halt; the flag decides only about the own plane', () => {
    const rig = rigOf({ guests: [{ 0: [hlt] }] });
    rig.msi(0, 0, 0x33);
    expect(rig.kind()).toBe('idle');
    expect(rig.vps[0]!.context.activity).toBe(Activity.Halted);
    rig.nmi(0, 0);
    rig.run();
    expect(rig.vps[0]!.statistics.wakes).toBe(1);
  });
});

describe('policies', () => {
  it('lowest and highest bits of every mask', () => {
    for (let mask = 0; mask < 1 << 16; mask += 7) {
      const bits = Array.from({ length: 16 }, (_, i) => i).filter((i) => mask & (1 << i));
      expect([lowestPlane(mask), highestPlane(mask)]).toEqual([bits[0] ?? -1, bits.at(-1) ?? -1]);
    }
  });
  it('lowest-runnable: with none runnable, plane 0 is made runnable and taken (LKML 20260608 47/60)', () => {
    const { vps } = rigOf({ policy: 'lowest-runnable', guests: [{ 0: [hlt], 2: [] }] });
    const vp = vps[0]!;
    vp.setSchedule(vp.plane(0), Schedule.Stopped);
    expect(new LowestRunnablePolicy().select(vp)).toBe(0);
    expect(vp.plane(0).schedule).toBe(Schedule.Runnable);
    vp.setSchedule(vp.plane(0), Schedule.Stopped);
    vp.setSchedule(vp.plane(2), Schedule.Runnable);
    expect(new LowestRunnablePolicy().select(vp)).toBe(2);
  });
  it('highest-runnable: with none runnable the VP blocks', () => {
    const rig = rigOf({ guests: [{ 0: [hlt], 2: [] }] });
    rig.vps[0]!.setSchedule(rig.vps[0]!.plane(0), Schedule.Stopped);
    expect(rig.kind()).toBe('idle');
    expect(rig.vps[0]!.retired).toBe(0);
  });
  it('userspace: the named plane runs and is runnable by that', () => {
    const rig = rigOf({ policy: 'userspace', guests: [{ 0: [hlt], 2: [hlt] }] });
    rig.vps[0]!.named = 2;
    rig.run();
    expect([rig.vps[0]!.current, rig.vps[0]!.runnable]).toEqual([2, 0b101]);
    rig.vps[0]!.named = 1;
    expect(() => rig.run()).toThrow(expect.objectContaining({ code: 'NoSuchPlane' }));
    expect(rig.vps[0]!.current).toBe(2);
  });
  it('a switch request keeps group masks and schedules in step (REC of one owner for group data; LKML 20250401 review of 10/29)', () => {
    for (const policy of ['userspace', 'lowest-runnable', 'highest-runnable'] as const) {
      const rig = rigOf({ policy, claims: calls, on: (c) => c.vp.replies.switchTo(c.plane === 0 ? 2 : 0, 'x', 'stopped'), guests: [{ 0: [call, hlt], 2: [call] }] });
      rig.run();
      expect(rig.switches[0]).toEqual(['0>2 x', '2>0 x']);
      expect(rig.vps[0]!.runnable).toBe(0b001);
    }
  });
});

describe('claims', () => {
  const claimant = (name: string, ...ranges: readonly (readonly [number, number])[]) => new Puppet(name, ranges.map(([from, to]) => ({ exit: 'msr', from, to })), (c) => c.vp.replies.resume());
  const table = () => new ClaimTable(['msr', 'io']);

  it('a double claim names both and the first number; nothing of the refused one stays', () => {
    const t = table();
    t.add(claimant('a', [0x10, 0x1f]));
    expect(() => t.add(claimant('b', [0, 5], [0x18, 0x30]))).toThrow(expect.objectContaining({ code: 'DoubleClaim', details: { exit: 'msr', key: 0x18, claimants: ['a', 'b'] } }));
    expect(t.list()).toEqual([{ exit: 'msr', from: 0x10, to: 0x1f, owner: 'a' }]);
  });
  it('an unknown exit kind and an empty range are refused', () => {
    const t = table();
    expect(() => t.add(new Puppet('a', [{ exit: 'nothing', from: 0, to: 0 }], (c) => c.vp.replies.resume()))).toThrow(expect.objectContaining({ code: 'BadConfig' }));
    expect(() => t.add(claimant('a', [5, 4]))).toThrow(expect.objectContaining({ code: 'BadConfig' }));
    expect(() => t.add(claimant('a', [Number.NaN, 4]))).toThrow(expect.objectContaining({ code: 'BadConfig' }));
    expect(t.list()).toEqual([]);
  });
  it('an extender takes the overlap; the rest stays with its owner on either side', () => {
    const t = table();
    const a = claimant('a', [0x10, 0x1f], [0x40, 0x4f]);
    const b = claimant('b', [0x14, 0x17], [0x30, 0x60]);
    t.add(a);
    t.add(b, ['a']);
    expect(t.list().map((r) => `${r.owner} ${r.from.toString(16)}-${r.to.toString(16)}`)).toEqual(['a 10-13', 'b 14-17', 'a 18-1f', 'b 30-60']);
    for (let key = 0; key < 0x70; key++) {
      const owner = key >= 0x30 && key <= 0x60 ? b : key >= 0x14 && key <= 0x17 ? b : key >= 0x10 && key <= 0x1f ? a : null;
      expect(t.find('msr', key)).toBe(owner);
    }
    expect(t.find('io', 0x10)).toBeNull();
  });
  it('knows who would answer without an extender', () => {
    const t = table();
    const [a, b, c] = [claimant('a', [0x10, 0x1f]), claimant('b', [0x14, 0x30]), claimant('c', [0x00, 0x40])] as const;
    t.add(a);
    t.add(b, ['a']);
    t.add(c, ['a', 'b']);
    const under = (owner: Puppet, ...keys: number[]) => keys.map((key) => t.under('msr', key, owner)?.name ?? null);
    expect(under(c, 0x0f, 0x10, 0x13, 0x14, 0x1f, 0x20, 0x30, 0x31)).toEqual([null, 'a', 'a', 'b', 'b', 'b', 'b', null]);
    expect(under(b, 0x13, 0x14, 0x1f, 0x20)).toEqual([null, 'a', 'a', null]);
    expect(under(a, 0x10)).toEqual([null]);
    expect(t.under('io', 0x14, c)).toBeNull();
  });
  it('an exit that an extender leaves goes to whom it extends, and then to the architecture', () => {
    const seen: string[] = [];
    const names = ['a', 'b', 'c'] as const;
    const rig = rigOf({ guests: [{ 0: [{ op: 'call' }, { op: 'jumpIf', register: 'rax', equals: 0, to: 0 }, hlt] }] });
    const takes: Record<string, boolean> = { a: false, b: false, c: false };
    names.forEach((name, i) => {
      const puppet = new Puppet(name, [{ exit: 'call', from: 1, to: 1 }], (context) => {
        seen.push(name);
        return takes[name] === true ? context.vp.replies.exit({ kind: name }) : null;
      });
      rig.machine.addPersonality(puppet, names.slice(0, i));
    });
    takes['a'] = true;
    expect(rig.kind()).toBe('exit');
    expect([rig.vps[0]!.exit?.kind, seen.splice(0).join('')]).toEqual(['a', 'cba']);
    takes['b'] = true;
    expect(rig.kind()).toBe('exit');
    expect([rig.vps[0]!.exit?.kind, seen.splice(0).join('')]).toEqual(['b', 'cb']);
    takes['a'] = takes['b'] = false;
    const { faults } = rig.vps[0]!.statistics;
    rig.run(1);
    expect(rig.vps[0]!.statistics.faults).toBeGreaterThan(faults);
  });
  it('a personality that cannot be installed leaves no trace in the machine', () => {
    const { machine } = rigOf({ guests: [] });
    machine.addPersonality(claimant('a', [1, 2]));
    expect(() => machine.addPersonality(claimant('a', [7, 8]))).toThrow(expect.objectContaining({ code: 'ExistsAlready' }));
    const sameState = Object.assign(claimant('c', [7, 8]), { stateName: 'a' });
    expect(() => machine.addPersonality(sameState)).toThrow(expect.objectContaining({ code: 'ExistsAlready' }));
    expect(machine.claims.list()).toHaveLength(1);
    expect(machine.personalities).toHaveLength(1);
    expect(() => machine.personality('nobody')).toThrow(expect.objectContaining({ code: 'UnknownPersonality' }));
  });
});

it('handlers of tables acknowledge; the machine is quiet at the end', () => {
  const rig = rigOf({ guests: [{ 0: { id: 't', steps: [{ op: 'sti' }, hlt, { op: 'jump', to: 1 }], handlers: { default: handled } } }] });
  rig.run();
  for (let v = 0x20; v < 0x100; v += 5) rig.msi(0, 0, v);
  expect(rig.kind()).toBe('idle');
  expect(rig.vps[0]!.context.events.balance()).toMatchObject({ accepted: 45, delivered: 45, pending: 0 });
});
