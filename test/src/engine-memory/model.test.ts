import { AccessResult, HOST, Right, Side, type Subject, subject, SubjectKind } from '@vmplanes/engine';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { memoryOf, PAGE, pattern } from './fixture.ts';

const { Ok, Absent, Denied, ReadOnly, OverlayRefused, Mismatch } = AccessResult;
const PLANES = 3;
const PAGES = 12;
const SIZE = PAGES * PAGE;

/** Guest memory as one would say it in a sentence per rule: flat arrays per side and overlay, one right per plane and page. */
class Model {
  shared = new Uint8Array(SIZE);
  private = new Uint8Array(SIZE);
  isPrivate = Array<boolean>(PAGES).fill(false);
  rights = Array.from({ length: PLANES }, () => Array<number>(PAGES).fill(31));
  overlays = Array.from({ length: PLANES }, () => new Map<number, { bytes: Uint8Array; rights: number }>());
  /** Pages 0..7 ordinary, 8..9 read-only, 10..11 no slot. */
  verdict(s: Subject, page: number, access: number): AccessResult {
    const host = s.kind === SubjectKind.Host;
    const overlay = s.seesOverlays ? this.overlays[s.plane]?.get(page) : undefined;
    if (!overlay && page >= 10) return Absent;
    if (!overlay && s.side !== Side.Current && (s.side === Side.Private) !== this.isPrivate[page]) return Mismatch;
    if (!host && (this.rights[s.plane]![page]! & access) !== access) return Denied;
    if (!host && overlay && (overlay.rights & access) !== access) return OverlayRefused;
    if (!host && !overlay && page >= 8 && access & Right.Write) return ReadOnly;
    return Ok;
  }
  place(s: Subject, gpa: number): [Uint8Array, number] {
    const page = Math.floor(gpa / PAGE);
    const overlay = s.seesOverlays ? this.overlays[s.plane]?.get(page) : undefined;
    if (overlay) return [overlay.bytes, gpa % PAGE];
    return [this.isPrivate[page] ? this.private : this.shared, gpa];
  }
  /** All checks of all bytes, then all bytes. */
  access(s: Subject, gpa: number, bytes: Uint8Array, access: number): { result: AccessResult; failed: number } {
    for (let i = 0; i < bytes.length; i++) {
      const page = Math.floor((gpa + i) / PAGE);
      const result = this.verdict(s, page, access);
      if (result !== Ok) return { result, failed: gpa + i };
    }
    for (let i = 0; i < bytes.length; i++) {
      const [array, at] = this.place(s, gpa + i);
      if (access === Right.Write) array[at] = bytes[i]!;
      else bytes[i] = array[at]!;
    }
    return { result: Ok, failed: 0 };
  }
}

const kinds = Object.values(SubjectKind);
const who = fc.record({ kind: fc.constantFrom(...kinds), plane: fc.nat(PLANES - 1), side: fc.constantFrom(0, 0, 0, 1, 2), sees: fc.option(fc.boolean()) });
const place = fc.tuple(fc.nat(PAGES - 1), fc.constantFrom(0, 1, 100, 2048, PAGE - 8, PAGE - 3, PAGE - 1)).map(([page, at]) => page * PAGE + at);
const length = fc.constantFrom(0, 1, 2, 3, 8, 40, 200, PAGE, PAGE + 5, 2 * PAGE + 1);
const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ op: fc.constant('move' as const), who, gpa: place, length, access: fc.constantFrom(1, 2, 4, 8), fill: fc.nat(255) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('word' as const), who, gpa: place, size: fc.constantFrom(1, 2, 4, 8), write: fc.boolean(), lo: fc.nat(0xffffffff), hi: fc.nat(0xffffffff) }) },
    { weight: 2, arbitrary: fc.record({ op: fc.constant('rights' as const), plane: fc.nat(PLANES - 1), page: fc.nat(PAGES - 1), rights: fc.nat(31) }) },
    fc.record({ op: fc.constant('private' as const), page: fc.nat(PAGES - 1), on: fc.boolean() }),
    fc.record({ op: fc.constant('overlay' as const), plane: fc.nat(PLANES - 1), page: fc.nat(PAGES - 1), rights: fc.nat(31) }),
  ),
  { maxLength: 40 },
);

it('every access ends as the rules say, byte for byte', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const { memory } = memoryOf({ maxPlanes: PLANES });
      memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE, logDirty: true });
      memory.addSlot({ id: 1, gpa: 8 * PAGE, size: 2 * PAGE, readonly: true });
      const { access } = memory;
      const model = new Model();
      const dirty = new Set<number>();
      for (const s of list) {
        if (s.op === 'rights') {
          memory.permissions[s.plane]!.set(s.page, 1, s.rights);
          model.rights[s.plane]![s.page] = s.rights;
        } else if (s.op === 'private') {
          memory.setPrivate(s.page, 1, s.on);
          model.isPrivate[s.page] = s.on;
        } else if (s.op === 'overlay') {
          if (model.overlays[s.plane]!.has(s.page)) {
            expect(memory.takeOverlay(s.plane, s.page)).toBe(true);
            model.overlays[s.plane]!.delete(s.page);
            continue;
          }
          const frame = memory.frames.allocate();
          expect(memory.placeOverlay(s.plane, s.page, frame, s.rights)).toBe(true);
          memory.frames.release(frame);
          model.overlays[s.plane]!.set(s.page, { bytes: new Uint8Array(PAGE), rights: s.rights });
        } else {
          const { kind, plane, side, sees } = s.who;
          const me = subject(kind, plane, side as Side, sees ?? undefined);
          const size = s.op === 'move' ? s.length : s.size;
          const right = s.op === 'move' ? s.access : s.write ? Right.Write : Right.Read;
          const theirs = s.op === 'move' ? pattern(size, s.fill) : new Uint8Array(8);
          if (s.op === 'word') {
            const view = new DataView(theirs.buffer);
            view.setUint32(0, s.lo, true);
            view.setUint32(4, s.hi, true);
          }
          const mine = theirs.slice();
          const expected = model.access(me, s.gpa, theirs.subarray(0, size), right);
          if (expected.result === Ok && right === Right.Write) {
            for (let at = s.gpa; at < s.gpa + size; at++) {
              const page = Math.floor(at / PAGE);
              if (page < 8 && !(me.seesOverlays && model.overlays[plane]!.has(page))) dirty.add(page);
            }
          }
          expect(access.check(me, s.gpa, size, right)).toBe(expected.result);
          let result: AccessResult;
          if (s.op === 'word') {
            const [w, r] = ({ 1: [access.writeU8, access.readU8], 2: [access.writeU16, access.readU16], 4: [access.writeU32, access.readU32], 8: [access.writeU64, access.readU64] } as const)[size as 1 | 2 | 4 | 8];
            result = s.write ? w.call(access, me, s.gpa, s.lo, s.hi) : r.call(access, me, s.gpa);
            if (result === Ok && !s.write) {
              mine.fill(0);
              new DataView(mine.buffer).setUint32(0, access.lo, true);
              new DataView(mine.buffer).setUint32(4, access.hi, true);
              theirs.fill(0, size);
            }
          } else if (right === Right.Write) result = access.write(me, s.gpa, mine, 0, size);
          else result = right === Right.Read ? access.read(me, s.gpa, mine, 0, size) : access.fetch(me, s.gpa, mine, 0, size, right);
          expect(result).toBe(expected.result);
          if (result !== Ok) expect(access.failedGpa).toBe(expected.failed);
          else expect([...mine]).toEqual([...theirs]);
        }
      }
      const all = new Uint8Array(10 * PAGE);
      for (const on of [false, true]) {
        memory.setPrivate(0, PAGES, on);
        access.read(HOST, 0, all, 0, all.length);
        expect(Buffer.compare(all, (on ? model.private : model.shared).subarray(0, all.length))).toBe(0);
      }
      const bits = new Uint32Array(1);
      memory.dirty.collect(0, bits);
      expect([...Array(8).keys()].filter((p) => bits[0]! & (1 << p))).toEqual([...dirty].sort());
    }),
    { numRuns: 250 },
  );
});
