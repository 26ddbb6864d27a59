import { ClaimTable, ContextLayout, HostError, type Personality, PlaneId, Replies, VpIndex } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { spend, ToyCpu, toyOf } from './toy.ts';

const sentence = (act: () => unknown): string => {
  try {
    act();
    return 'none';
  } catch (error) {
    return error instanceof HostError ? `${error.code} ${error.message}` : `${(error as Error).name} ${(error as Error).message}`;
  }
};
const handler = (name: string, ...claims: Personality['claims'][number][]): Personality => ({ name, stateName: name, stateVersion: 1, claims, handle: () => null, save: () => null, restore() {} });

describe('ids', () => {
  it('planes 0 to 15 and VPs 0 to 63; no others, no fractions', () => {
    expect([PlaneId(0), PlaneId(15), VpIndex(0), VpIndex(63)]).toEqual([0, 15, 0, 63]);
    for (const n of [-1, 16, 1.5, Number.NaN]) expect(sentence(() => PlaneId(n))).toBe(`RangeError plane ${n}: not in 0..15`);
    for (const n of [-1, 64, 0.5]) expect(sentence(() => VpIndex(n))).toBe(`RangeError VP ${n}: not in 0..63`);
  });
});

describe('answers', () => {
  it('what is not said is: no error code, address 0, stopped and done for a switch, held for a wait, nothing to finish', () => {
    const r = new Replies();
    r.fault(1, 2, 3, 4);
    expect(r.fault(14)).toEqual({ kind: 'fault', fault: { code: 14, errorCode: null, addressLo: 0, addressHi: 0 } });
    expect(r.fault(14, 5, 6, 7)).toEqual({ kind: 'fault', fault: { code: 14, errorCode: 5, addressLo: 6, addressHi: 7 } });
    r.switchTo(2, 'a', 'runnable', 'held');
    expect(r.switchTo(1, 'call')).toEqual({ kind: 'switch', plane: 1, reason: 'call', leave: 'stopped', rip: 'advanced' });
    r.wait({ kind: 'key', key: 'a' }, 'advanced');
    expect(r.wait({ kind: 'time', at: 9 })).toEqual({ kind: 'wait', condition: { kind: 'time', at: 9 }, rip: 'held' });
    r.exit({ kind: 'a' }, { owner: 'o', kind: 'k', data: {}, reply: null });
    expect(r.exit({ kind: 'b' })).toEqual({ kind: 'exit', payload: { kind: 'b' }, completion: null });
  });
});

describe('claims', () => {
  it('an unknown exit kind is named before an empty range', () => {
    const table = new ClaimTable(['call']);
    expect(sentence(() => table.add(handler('p', { exit: 'io', from: 3, to: 2 })))).toBe("BadConfig p: claims 'io', which is not an exit of this architecture");
    expect(sentence(() => table.add(handler('p', { exit: 'call', from: 3, to: 2 })))).toBe("BadConfig p: claim of 'call' from 3 to 2 is empty");
  });
  it('lists kinds in the order of their names, whatever came first', () => {
    for (const order of [['a', 'b', 'c', 'd'], ['d', 'c', 'b', 'a'], ['c', 'a', 'd', 'b'], ['b', 'd', 'a', 'c']]) {
      const table = new ClaimTable(order);
      for (const exit of order) table.add(handler(`p${exit}`, { exit, from: 1, to: 1 }));
      expect(table.list().map((r) => r.exit)).toEqual(['a', 'b', 'c', 'd']);
    }
  });
  it('says who is under an extender: within the overlap, for that extender, the latest first', () => {
    const table = new ClaimTable(['call', 'io']);
    const low = handler('low', { exit: 'call', from: 10, to: 20 }, { exit: 'call', from: 30, to: 40 });
    const mid = handler('mid', { exit: 'call', from: 5, to: 32 });
    const top = handler('top', { exit: 'call', from: 15, to: 31 });
    table.add(low);
    table.add(mid, ['low']);
    table.add(top, ['mid']);
    const under = (owner: Personality) => [4, 9, 10, 14, 15, 20, 21, 29, 30, 31, 32, 33].map((key) => table.under('call', key, owner)?.name ?? null);
    expect(under(mid)).toEqual([null, null, 'low', 'low', 'low', 'low', null, null, 'low', 'low', 'low', null]);
    expect(under(top)).toEqual([null, null, null, null, 'mid', 'mid', 'mid', 'mid', 'mid', 'mid', null, null]);
    expect(under(low)).toEqual(Array<null>(12).fill(null));
    expect(table.under('io', 10, mid)).toBeNull();
    expect([9, 10, 14, 15, 31, 32, 33, 40, 41].map((key) => table.find('call', key)?.name ?? null)).toEqual(['mid', 'mid', 'mid', 'top', 'top', 'mid', 'low', 'low', null]);
  });
});

describe('layouts', () => {
  const layout = (...rows: [string, number, number][]): string => sentence(() => new ContextLayout(64, rows.map(([name, offset, size]) => ({ name, offset, size }))));
  it('the first rule that is broken is named: multiples of 4, then the order, then the name, then the block', () => {
    expect(layout(['a', 0, 8], ['b', 2, 4])).toBe('BadConfig b: offset and size must be multiples of 4');
    expect(layout(['a', 0, 8], ['b', 8, 6])).toBe('BadConfig b: offset and size must be multiples of 4');
    expect(layout(['a', 0, 0])).toBe('BadConfig a: offset and size must be multiples of 4');
    expect(layout(['a', 16, 8], ['a', 20, 4])).toBe('BadConfig a: declared at 0x14, previous register ends at 0x18');
    expect(layout(['a', 0, 8], ['a', 8, 4])).toBe('BadConfig a: declared twice');
    expect(layout(['a', 60, 8])).toBe('BadConfig context block: 68 bytes of registers in a block of 64');
    expect(layout(['a', 60, 4])).toBe('none');
  });
});

describe('processors of VPs', () => {
  it('a VP without one is named; a state that came before its processor is kept, saved and handed over once', () => {
    const toy = toyOf({ planes: [[0], [0]] });
    toy.cpus[1]!.value = 7;
    const saved = toy.machine.snapshot();
    const bare = toyOf({ planes: [] });
    bare.machine.createVp();
    bare.machine.createVp();
    expect(sentence(() => bare.machine.run(1))).toBe('BadState no processor drives VP 0');
    bare.machine.restore(saved);
    expect(bare.machine.snapshot()).toEqual(saved);
    const cpu = new ToyCpu();
    bare.machine.setCpu(bare.machine.vp(1), cpu);
    expect(cpu.value).toBe(7);
    cpu.value = 8;
    const next = new ToyCpu();
    bare.machine.setCpu(bare.machine.vp(1), next);
    expect(next.value).toBe(0);
    next.todo.push((vp) => spend(vp, 1));
    bare.machine.restore(saved);
    expect(next.value).toBe(7);
    const last = new ToyCpu();
    bare.machine.setCpu(bare.machine.vp(1), last);
    expect(last.value).toBe(0);
  });
});
