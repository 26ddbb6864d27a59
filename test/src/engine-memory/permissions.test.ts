import { ALL_RIGHTS, type GuestMemory, HostError, PAGE_LIMIT, Right } from '@vmplanes/engine';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { memoryOf, PAGE } from './fixture.ts';

let memory: GuestMemory;
const ranges = (plane: number, first: number, count: number): number[][] => {
  const found: number[][] = [];
  memory.permissions[plane]!.forEachRange(first, count, (...r) => found.push(r));
  return found;
};

beforeEach(() => {
  memory = memoryOf().memory;
  memory.addSlot({ id: 0, gpa: 0, size: 32 * PAGE });
});

// @spec LKML 20250401 RFC KVM planes 06/29: attributes are per plane and restrict below the memslot.
describe('plane permissions', () => {
  it('begin without restriction and are separate per plane', () => {
    memory.permissions[1]!.set(4, 4, Right.Read);
    expect(ranges(0, 0, PAGE_LIMIT)).toEqual([[0, PAGE_LIMIT, ALL_RIGHTS]]);
    expect(ranges(1, 0, 16)).toEqual([[0, 4, ALL_RIGHTS], [4, 4, Right.Read], [8, 8, ALL_RIGHTS]]);
    expect(ranges(1, 5, 2)).toEqual([[5, 2, Right.Read]]);
    expect(memory.permissions[1]!.nextChange(0)).toBe(4);
    expect(memory.permissions[1]!.nextChange(8)).toBe(PAGE_LIMIT);
  });

  it('take rights away and add them, leaving the others', () => {
    const p = memory.permissions[2]!;
    p.revoke(0, 2, Right.Write | Right.ShadowStack);
    p.revoke(1, 2, Right.Read);
    p.grant(1, 1, Right.Write);
    expect([0, 1, 2, 3].map((g) => p.get(g))).toEqual([13, 14, 30, 31]);
    expect(p.set(3, 1, 0xffe3)).toBe(true);
    expect(p.get(3)).toBe(3);
  });

  it('answer for large pages plane by plane', () => {
    memory.permissions[1]!.set(512 + 17, 1, Right.Read);
    expect([0, 1, 2].map((i) => memory.permissions[1]!.isUniform(i * 512, 512))).toEqual([true, false, true]);
    expect([0, 1, 2].map((i) => memory.permissions[0]!.isUniform(i * 512, 512))).toEqual([true, true, true]);
    memory.permissions[1]!.set(512, 512, Right.Read);
    expect(memory.permissions[1]!.isUniform(512, 512)).toBe(true);
    expect(memory.permissions[1]!.isUniform(512, 513)).toBe(false);
    memory.permissions[0]!.set(512 + 18, 1, 0);
    expect(memory.permissions[1]!.isUniform(512, 512)).toBe(true);
  });

  it('take a default once, for all pages', () => {
    const p = memory.permissions[1]!;
    p.set(3, 1, Right.Write);
    expect(p.setDefault(Right.Read)).toBe(true);
    expect(ranges(1, 0, PAGE_LIMIT)).toEqual([[0, PAGE_LIMIT, Right.Read]]);
    expect(p.setDefault(ALL_RIGHTS)).toBe(false);
    expect([p.get(0), p.defaultRights, p.isDefaultSet]).toEqual([Right.Read, Right.Read, true]);
    expect(memory.permissions[0]!.isDefaultSet).toBe(false);
  });

  it('count changes, and only changes', () => {
    const p = memory.permissions[0]!;
    const before = p.generation;
    p.set(1, 5, ALL_RIGHTS);
    expect(p.generation).toBe(before);
    p.set(1, 5, 0);
    p.set(1, 5, 0);
    expect([p.generation, memory.permissions[1]!.generation]).toEqual([before + 1, 0]);
  });

  it('tell observers before they return, when the table already says the new', () => {
    const seen: unknown[] = [];
    memory.observe({
      permissionsChanged: (...args) => seen.push([...args, memory.permissions[args[0]]!.get(args[1])]),
      translationsRevoked: () => {},
      frameRevoked: () => {},
    });
    memory.permissions[1]!.set(4, 8, Right.Read);
    memory.permissions[1]!.set(4, 8, Right.Read);
    memory.permissions[1]!.set(0, 16, Right.Write);
    expect(seen).toEqual([
      [1, 4, 8, ALL_RIGHTS & ~Right.Read, 0, Right.Read],
      [1, 0, 16, ALL_RIGHTS & ~Right.Write, Right.Write, Right.Write],
    ]);
  });

  it('stay cheap with a million ranges, and need nothing once uniform again', () => {
    const p = memory.permissions[3]!;
    for (let i = 0; i < 1e6; i++) p.set(2 ** 20 + i, 1, 1 + (i % 3));
    const { steps, nodes } = p.cost(2 ** 20 + 777_777);
    expect(steps).toBeLessThanOrEqual(4);
    expect(nodes).toBeLessThan(16_200);
    let runs = 0;
    p.forEachRange(2 ** 20, 1e6, () => runs++);
    expect(runs).toBe(1e6);
    p.set(0, PAGE_LIMIT, ALL_RIGHTS);
    expect(p.cost(2 ** 20)).toEqual({ steps: 0, nodes: 0 });
  });

  it('refuse a range beyond the space', () => expect(() => memory.permissions[0]!.set(PAGE_LIMIT, 1, 0)).toThrow(HostError));
});

/** What a translation cache keeps: the last fill per plane and page, dropped when an observer call says so. */
class Cache {
  readonly entries = new Map<string, { plane: number; gpn: number; frame: number; rights: number }>();
  permissionsChanged(plane: number, first: number, count: number, revoked: number): void {
    this.drop((e) => e.plane === plane && e.gpn >= first && e.gpn < first + count && (e.rights & revoked) !== 0);
  }
  translationsRevoked(plane: number, first: number, count: number, rights: number): void {
    this.drop((e) => (plane < 0 || e.plane === plane) && e.gpn >= first && e.gpn < first + count && (e.rights & rights) !== 0);
  }
  frameRevoked(frame: number, rights: number): void {
    this.drop((e) => e.frame === frame && (e.rights & rights) !== 0);
  }
  private drop(which: (e: { plane: number; gpn: number; frame: number; rights: number }) => boolean): void {
    for (const [key, e] of this.entries) if (which(e)) this.entries.delete(key);
  }
}

it('no cached translation ever allows more than memory does', () => {
  const page = fc.nat(9);
  const plane = fc.nat(2);
  const rights = fc.nat(31);
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ op: fc.constant('fill' as const), plane, page, rights: fc.constantFrom(1, 2, 4, 8) }) },
    fc.record({ op: fc.constantFrom('set', 'revoke', 'grant', 'default', 'private', 'shared', 'discard', 'overlay', 'unoverlay', 'watch', 'unwatch', 'log', 'nolog', 'collect', 'remove', 'add', 'move'), plane, page, rights }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { memory } = memoryOf({ maxPlanes: 3 });
      const cache = new Cache();
      memory.registerWatcher('w', { accessed: () => 'allow' });
      memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE });
      const overlayFrame = memory.frames.allocate();
      memory.observe(cache);
      for (const { op, plane, page, rights } of steps) {
        const p = memory.permissions[plane]!;
        const slot = memory.slots.byId(0);
        const frame = memory.frameAt(page);
        if (op === 'fill') {
          if (memory.access.fill(memory.subjects[plane]!.cpu, page, rights) === 0) cache.entries.set(`${plane}/${page}`, { plane, gpn: page, frame: memory.access.fillFrame, rights: memory.access.fillRights });
        } else if (op === 'set') p.set(page, 2, rights);
        else if (op === 'revoke') p.revoke(page, 3, rights);
        else if (op === 'grant') p.grant(page, 3, rights);
        else if (op === 'default') p.setDefault(rights);
        else if (op === 'private' || op === 'shared') memory.setPrivate(page, 2, op === 'private');
        else if (op === 'discard') memory.discard(page, 2, rights > 15);
        else if (op === 'overlay') memory.placeOverlay(plane, page, overlayFrame, rights);
        else if (op === 'unoverlay') memory.takeOverlay(plane, page);
        else if (op === 'watch' && frame >= 0) memory.watchFrame(frame, { read: rights > 20, write: rights <= 20 }, 'w');
        else if (op === 'unwatch' && frame >= 0) memory.unwatchFrame(frame, { read: rights > 20, write: rights <= 20 }, 'w');
        else if ((op === 'log' || op === 'nolog') && slot) memory.logDirty(0, op === 'log');
        else if (op === 'collect' && slot?.dirty) memory.dirty.collect(0, new Uint32Array(1));
        else if (op === 'remove' && slot) memory.removeSlot(0);
        else if (op === 'add' && !slot) memory.addSlot({ id: 0, gpa: (page % 2) * PAGE, size: 8 * PAGE });
        else if (op === 'move' && slot) memory.moveSlot(0, (page % 3) * PAGE);
        for (const e of cache.entries.values()) {
          expect(memory.access.fill(memory.subjects[e.plane]!.cpu, e.gpn, 0)).toBe(0);
          expect(memory.access.fillFrame).toBe(e.frame);
          expect(e.rights & ~memory.access.fillRights).toBe(0);
          expect(e.rights & ~memory.effectiveRights(e.plane, e.gpn)).toBe(0);
        }
      }
    }),
    { numRuns: 300 },
  );
});
