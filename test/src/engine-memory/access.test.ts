import { AccessResult, ALL_RIGHTS, CallBuffer, GuestMemory, HOST, MemoryFaultInfo, Right, Side, subject, SubjectKind } from '@vmplanes/engine';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { bytesOf, memoryOf, PAGE, pattern } from './fixture.ts';

const { Ok, Absent, Denied, ReadOnly, OverlayRefused, Mismatch, NoMemory } = AccessResult;

let memory: GuestMemory;
const into = new Uint8Array(3 * PAGE);
const host = (gpa: number, length: number): number[] => {
  const bytes = new Uint8Array(length);
  expect(memory.access.read(HOST, gpa, bytes, 0, length)).toBe(Ok);
  return [...bytes];
};

beforeEach(() => {
  memory = memoryOf().memory;
  memory.addSlot({ id: 0, gpa: 0, size: 16 * PAGE });
  memory.addSlot({ id: 1, gpa: 0x100000, size: 4 * PAGE, readonly: true });
  into.fill(0xaa);
});

describe('presence', () => {
  it('reads zeros where nothing was written, without taking a frame', () => {
    const free = memory.frames.free;
    expect(memory.access.read(memory.subjects[0]!.cpu, 0x1ff0, into, 5, 32)).toBe(Ok);
    expect([...into.subarray(4, 38)]).toEqual([0xaa, ...Array<number>(32).fill(0), 0xaa]);
    expect(memory.frames.free).toBe(free);
  });

  it.each([
    ['outside of slots', 0x50000, 4, 0x50000],
    ['running out of a slot', 16 * PAGE - 2, 4, 16 * PAGE],
    ['at the end of the space', 2 ** 52 - 4, 4, 2 ** 52 - 4],
    ['beyond the space', 2 ** 52 - 1, 4, 2 ** 52 - 1],
    ['far beyond', Number.MAX_VALUE, 4, Number.MAX_VALUE],
    ['negative', -8, 4, -8],
  ])('an access %s is absent and moves nothing', (_name, gpa, length, failed) => {
    expect(memory.access.write(memory.subjects[0]!.cpu, gpa, pattern(length), 0, length)).toBe(Absent);
    expect(memory.access.failedGpa).toBe(failed);
    expect(memory.access.missing).toBe(0);
    expect(memory.access.read(memory.subjects[0]!.cpu, gpa, into, 0, length)).toBe(Absent);
    expect(host(16 * PAGE - 2, 2)).toEqual([0, 0]);
  });

  it('memory may lie at the far end of the space', () => {
    const gpa = 2 ** 52 - 2 * PAGE;
    memory.addSlot({ id: 2, gpa, size: 2 * PAGE });
    memory.permissions[1]!.set(2 ** 40 - 1, 1, Right.Read);
    expect(memory.access.writeU64(memory.subjects[1]!.cpu, gpa + PAGE - 4, 1, 2)).toBe(Denied);
    expect(memory.access.writeU64(memory.subjects[0]!.cpu, gpa + PAGE - 4, 1, 2)).toBe(Ok);
    expect(host(gpa + PAGE - 4, 8)).toEqual([1, 0, 0, 0, 2, 0, 0, 0]);
    expect(memory.access.readU32(memory.subjects[1]!.cpu, 2 ** 52 - 4)).toBe(Ok);
  });

  it('does not trip over a NaN address', () => expect(memory.access.readU8(HOST, NaN)).toBe(Absent));
});

describe('subjects', () => {
  beforeEach(() => {
    memory.permissions[1]!.set(3, 1, Right.Read);
    memory.permissions[1]!.set(4, 1, 0);
    memory.permissions[1]!.set(5, 1, Right.ExecUser);
  });

  it.each(['cpu', 'walk', 'call', 'device'] as const)('%s is checked with the table of its plane only', (kind) => {
    const [other, mine] = [memory.subjects[0]![kind], memory.subjects[1]![kind]];
    const { access } = memory;
    expect(access.writeU32(other, 3 * PAGE, 7)).toBe(Ok);
    expect(access.writeU32(mine, 3 * PAGE, 8)).toBe(Denied);
    expect([access.failedGpa, access.missing]).toEqual([3 * PAGE, Right.Write]);
    expect(access.readU32(mine, 3 * PAGE)).toBe(Ok);
    expect(access.lo).toBe(7);
    expect(access.readU32(mine, 4 * PAGE)).toBe(Denied);
    expect(access.readU32(mine, 5 * PAGE)).toBe(Denied);
    expect(access.missing).toBe(Right.Read);
  });

  it('the host is not asked for rights and may write read-only memory', () => {
    expect(memory.access.writeU8(memory.subjects[1]!.host, 4 * PAGE, 1)).toBe(Ok);
    expect(memory.access.writeU8(HOST, 0x100000, 2)).toBe(Ok);
  });

  // @spec bug class of OpenVMM #1513: a fetch was checked as a data read.
  it('a fetch needs the execute right of its mode, not the read right', () => {
    const { cpu } = memory.subjects[1]!;
    expect(memory.access.fetch(cpu, 5 * PAGE, into, 0, 15, Right.ExecUser)).toBe(Ok);
    expect(memory.access.fetch(cpu, 5 * PAGE, into, 0, 15, Right.ExecSupervisor)).toBe(Denied);
    expect(memory.access.fetch(cpu, 3 * PAGE, into, 0, 15, Right.ExecUser)).toBe(Denied);
    expect(memory.access.fetch(cpu, 6 * PAGE - 3, into, 0, 15, Right.ExecUser)).toBe(Ok);
    expect(memory.access.fetch(cpu, 5 * PAGE - 3, into, 0, 15, Right.ExecUser)).toBe(Denied);
    expect(memory.access.failedGpa).toBe(5 * PAGE - 3);
  });

  it('read-only slots refuse guest writes, after the table', () => {
    const { access } = memory;
    for (const kind of ['cpu', 'walk', 'call', 'device'] as const) expect(access.writeU8(memory.subjects[0]![kind], 0x100010, 1)).toBe(ReadOnly);
    expect(access.missing).toBe(Right.Write);
    memory.permissions[0]!.set(0x100, 1, Right.Read);
    expect(access.writeU8(memory.subjects[0]!.cpu, 0x100010, 1)).toBe(Denied);
    expect(access.readU8(memory.subjects[0]!.cpu, 0x100010)).toBe(Ok);
    expect(memory.effectiveRights(0, 0x100)).toBe(Right.Read);
    expect(memory.effectiveRights(1, 0x100)).toBe(ALL_RIGHTS & ~Right.Write);
  });

  it('describes a refused access for a memory-fault exit', () => {
    const fault = new MemoryFaultInfo();
    const { walk } = memory.subjects[1]!;
    const result = memory.access.writeU64(walk, 3 * PAGE + 8, 1, 2);
    memory.access.describe(fault, walk, result, Right.Write);
    expect(fault).toMatchObject({ gpa: 3 * PAGE + 8, plane: 1, access: Right.Write, missing: Right.Write, result: Denied, isWalk: true, isPrivate: false, hasGva: false, instructionLength: 0 });
  });
});

describe('overlays', () => {
  let frame: number;
  beforeEach(() => {
    frame = memory.frames.allocate();
    memory.access.writeU8(HOST, 2 * PAGE, 0x11);
    memory.frames.bytes(frame)[0] = 0x22;
    expect(memory.placeOverlay(1, 2, frame, Right.Read | Right.ExecUser)).toBe(true);
  });

  it('are seen by their plane only, and by devices not at all', () => {
    const seen = (who: Parameters<typeof memory.access.readU8>[0]): number => (memory.access.readU8(who, 2 * PAGE), memory.access.lo);
    const [p0, p1] = [memory.subjects[0]!, memory.subjects[1]!];
    expect([seen(p0.cpu), seen(p1.cpu), seen(p1.call), seen(p1.walk), seen(p1.host), seen(p1.device), seen(HOST)]).toEqual([0x11, 0x22, 0x22, 0x22, 0x22, 0x11, 0x11]);
    expect(seen(subject(SubjectKind.Call, 1, Side.Current, false))).toBe(0x11);
  });

  it('have rights of their own, below the permissions of the plane', () => {
    const { cpu, host: owner } = memory.subjects[1]!;
    expect(memory.access.writeU8(cpu, 2 * PAGE, 1)).toBe(OverlayRefused);
    expect(memory.effectiveRights(1, 2)).toBe(Right.Read | Right.ExecUser);
    memory.permissions[1]!.set(2, 1, Right.Write | Right.ExecUser);
    expect(memory.access.writeU8(cpu, 2 * PAGE, 1)).toBe(OverlayRefused);
    expect(memory.access.readU8(cpu, 2 * PAGE)).toBe(Denied);
    expect(memory.effectiveRights(1, 2)).toBe(Right.ExecUser);
    expect(memory.access.writeU8(owner, 2 * PAGE, 0x33)).toBe(Ok);
    expect(memory.frames.bytes(frame)[0]).toBe(0x33);
    expect(host(2 * PAGE, 1)).toEqual([0x11]);
  });

  it('may ignore the permissions of the plane, which then speak of the page below alone', () => {
    const { cpu } = memory.subjects[1]!;
    memory.permissions[1]!.set(5, 1, Right.Write);
    expect(memory.placeOverlay(1, 5, frame, Right.Read | Right.ExecSupervisor, true)).toBe(true);
    expect(memory.placeOverlay(1, 5, frame, Right.Read | Right.ExecSupervisor)).toBe(false);
    expect(memory.access.readU8(cpu, 5 * PAGE)).toBe(Ok);
    expect(memory.access.writeU8(cpu, 5 * PAGE, 1)).toBe(OverlayRefused);
    expect(memory.effectiveRights(1, 5)).toBe(Right.Read | Right.ExecSupervisor);
    const saved = memory.save();
    memory.restore(saved);
    expect(memory.effectiveRights(1, 5)).toBe(Right.Read | Right.ExecSupervisor);
    memory.takeOverlay(1, 5);
    expect(memory.access.readU8(cpu, 5 * PAGE)).toBe(Denied);
  });

  it('may lie where no slot is', () => {
    expect(memory.placeOverlay(1, 0x70000, frame, Right.Read)).toBe(true);
    expect(memory.access.readU8(memory.subjects[1]!.cpu, 0x70000 * PAGE)).toBe(Ok);
    expect(memory.access.readU8(memory.subjects[0]!.cpu, 0x70000 * PAGE)).toBe(Absent);
  });

  // @spec bug class of OpenVMM #1599 and #1633: two VPs point their message page at the same page, then take it away one after the other.
  it('of several owners at the same page stay until the last one goes', () => {
    const rights = Right.Read | Right.ExecUser;
    expect(memory.placeOverlay(1, 2, frame, rights)).toBe(true);
    memory.frames.release(frame);
    expect(memory.takeOverlay(1, 2)).toBe(false);
    expect(memory.access.readU8(memory.subjects[1]!.cpu, 2 * PAGE)).toBe(Ok);
    expect(memory.access.lo).toBe(0x22);
    expect(memory.takeOverlay(1, 2)).toBe(true);
    expect(memory.frames.isHeld(frame)).toBe(false);
    expect(memory.takeOverlay(1, 2)).toBe(false);
    expect(memory.effectiveRights(1, 2)).toBe(ALL_RIGHTS);
  });

  it('refuse another frame or other rights at a taken page', () => {
    expect(memory.placeOverlay(1, 2, memory.frames.allocate(), Right.Read | Right.ExecUser)).toBe(false);
    expect(memory.placeOverlay(1, 2, frame, Right.Read)).toBe(false);
    expect(memory.placeOverlay(2, 2, frame, Right.Read)).toBe(true);
  });
});

describe('private and shared', () => {
  const side = (s: Side, plane = 0) => subject(SubjectKind.Cpu, plane, s);

  it('are two pages at one address, chosen for all planes by one attribute', () => {
    const { access } = memory;
    access.writeU8(HOST, PAGE, 1);
    expect(memory.setPrivate(1, 1, true)).toBe(true);
    expect(memory.setPrivate(1, 1, true)).toBe(false);
    for (const { cpu } of memory.subjects) {
      access.readU8(cpu, PAGE);
      expect(access.lo).toBe(0);
    }
    access.writeU8(memory.subjects[2]!.cpu, PAGE, 2);
    memory.setPrivate(1, 1, false);
    expect(host(PAGE, 1)).toEqual([1]);
    memory.setPrivate(1, 1, true);
    expect(host(PAGE, 1)).toEqual([2]);
    memory.discard(0, 4, true);
    expect(host(PAGE, 1)).toEqual([0]);
    expect(memory.nextPrivacyChange(0)).toBe(1);
    const ranges: unknown[] = [];
    memory.forEachPrivacyRange(0, 4, (...r) => ranges.push(r));
    expect(ranges).toEqual([[0, 1, false], [1, 1, true], [2, 2, false]]);
  });

  it('an access that means the other side is a mismatch, before permissions', () => {
    memory.setPrivate(1, 1, true);
    memory.permissions[0]!.set(0, 16, 0);
    expect(memory.access.readU8(side(Side.Shared), PAGE)).toBe(Mismatch);
    expect(memory.access.readU8(side(Side.Private), 2 * PAGE)).toBe(Mismatch);
    expect(memory.access.readU8(side(Side.Private), PAGE)).toBe(Denied);
    expect(memory.access.readU8(side(Side.Private, 1), PAGE)).toBe(Ok);
    expect(memory.access.readU8(side(Side.Shared, 1), 2 * PAGE)).toBe(Ok);
    expect(memory.access.read(side(Side.Shared, 1), 0, into, 0, PAGE + 1)).toBe(Mismatch);
    expect(memory.access.failedGpa).toBe(PAGE);
  });

  // @spec bug class of OpenVMM #1891: a page lost its rights on the way private, shared, private.
  it('a round trip leaves the rights of every plane as they were', () => {
    expect(memory.permissions[1]!.setDefault(Right.Read | Right.ExecUser)).toBe(true);
    memory.setPrivate(7, 1, true);
    memory.setPrivate(7, 1, false);
    memory.setPrivate(7, 1, true);
    expect(memory.effectiveRights(1, 7)).toBe(memory.permissions[1]!.defaultRights);
    expect(memory.effectiveRights(0, 7)).toBe(ALL_RIGHTS);
  });
});

describe('page straddle', () => {
  it.each([
    ['denied', () => memory.permissions[0]!.revoke(3, 1, Right.Write), Denied],
    ['absent', () => memory.moveSlot(0, 0x200000 - 3 * PAGE), Absent],
  ])('a write whose second page is %s leaves the first as it was', (_name, spoil, expected) => {
    spoil();
    const base = expected === Absent ? 0x200000 + 13 * PAGE : 3 * PAGE;
    const { access } = memory;
    access.write(HOST, base - 4, bytesOf(1, 2, 3, 4), 0, 4);
    const free = memory.frames.free;
    expect(access.write(memory.subjects[0]!.cpu, base - 4, pattern(8, 50), 0, 8)).toBe(expected);
    expect(access.failedGpa).toBe(base);
    expect(access.writeU64(memory.subjects[0]!.cpu, base - 4, 9, 9)).toBe(expected);
    expect(host(base - 4, 4)).toEqual([1, 2, 3, 4]);
    expect(memory.frames.free).toBe(free);
  });

  it('a write that meets the last frame half way moves nothing', () => {
    const made = memoryOf({ frames: 3, overcommit: true });
    memory = made.memory;
    memory.addSlot({ id: 0, gpa: 0, size: 8 * PAGE });
    const { access, subjects } = memory;
    access.write(HOST, 0, pattern(PAGE), 0, PAGE);
    access.write(HOST, PAGE, pattern(PAGE), 0, PAGE);
    expect(access.write(subjects[0]!.cpu, 2 * PAGE - 2, pattern(PAGE + 4, 7), 0, PAGE + 4)).toBe(NoMemory);
    expect(access.failedGpa).toBe(3 * PAGE);
    expect(host(2 * PAGE - 2, 4)).toEqual([0xff, 0, 0, 0]);
    expect(access.fill(subjects[0]!.cpu, 5, Right.Read)).toBe(NoMemory);
  });

  it('words across pages equal bytes', () => {
    const { access } = memory;
    const { cpu } = memory.subjects[0]!;
    for (let at = PAGE - 8; at <= PAGE; at++) {
      expect(access.writeU64(cpu, at, 0x04030201, 0xf8070605)).toBe(Ok);
      expect(host(at, 8)).toEqual([1, 2, 3, 4, 5, 6, 7, 0xf8]);
      access.readU64(cpu, at);
      expect([access.lo, access.hi]).toEqual([0x04030201, 0xf8070605]);
      access.readU32(cpu, at + 4);
      expect([access.lo, access.hi]).toEqual([0xf8070605, 0]);
      access.readU16(cpu, at + 3);
      expect(access.lo).toBe(0x0504);
      access.writeU16(cpu, at + 3, 0x1beef);
      access.writeU8(cpu, at, 0x1ab);
      expect(host(at, 8)).toEqual([0xab, 2, 3, 0xef, 0xbe, 6, 7, 0xf8]);
    }
  });
});

describe('preemption and calls', () => {
  it('reads of several pages may be torn between pages, and only there', () => {
    const { access } = memory;
    const points: string[] = [];
    access.preempt = (point) => {
      points.push(point);
      if (point === 'read-piece') access.writeU8(HOST, PAGE, 0x77);
    };
    access.read(memory.subjects[0]!.call, PAGE - 1, into, 0, 2);
    expect([...into.subarray(0, 2)]).toEqual([0, 0x77]);
    access.read(memory.subjects[0]!.call, 0, into, 0, PAGE);
    access.read(HOST, 0, into, 0, 2 * PAGE);
    expect(points).toEqual(['pages-checked', 'read-piece']);
  });

  // @spec bug class of OpenVMM #1483: a page was still written after its revocation had returned.
  it('no byte is written after a revocation that came in between, on either page', () => {
    const { access, subjects, permissions } = memory;
    access.preempt = (point) => {
      if (point === 'pages-checked') permissions[0]!.set(1, 1, Right.Read);
    };
    expect(access.write(subjects[0]!.cpu, PAGE - 2, pattern(4), 0, 4)).toBe(Denied);
    expect(host(PAGE - 2, 4)).toEqual([0, 0, 0, 0]);
  });

  it('a read that loses a page half way fails', () => {
    memory.access.preempt = (point) => {
      if (point === 'read-piece') memory.permissions[0]!.set(1, 1, 0);
    };
    expect(memory.access.read(memory.subjects[0]!.cpu, PAGE - 2, into, 0, 4)).toBe(Denied);
    expect(memory.access.failedGpa).toBe(PAGE);
  });

  it('a word torn by a nested word keeps its own first half', () => {
    const { access, subjects } = memory;
    access.write(HOST, PAGE - 4, pattern(8), 0, 8);
    access.preempt = (point) => {
      if (point !== 'read-piece') return;
      access.preempt = null;
      access.readU64(subjects[1]!.cpu, 5 * PAGE - 4);
    };
    access.readU64(subjects[0]!.cpu, PAGE - 4);
    expect([access.lo, access.hi]).toEqual([0x04030201, 0x08070605]);
  });

  // @spec bug class of CVE-2023-4155: a field was read again after its validation.
  it('a call buffer keeps what was fetched, whatever the guest writes then', () => {
    const buffer = new CallBuffer(8);
    const { call } = memory.subjects[0]!;
    memory.access.write(HOST, 16, pattern(16), 0, 16);
    memory.access.preempt = (point) => {
      if (point === 'fetched') memory.access.writeU64(HOST, 16, 0, 0);
    };
    expect(buffer.fetch(memory.access, call, 16, 8)).toBe(Ok);
    expect(buffer.view.getUint32(0, true)).toBe(0x04030201);
    expect(buffer.fetch(memory.access, call, 16, 12)).toBe(Ok);
    expect([...buffer.bytes.subarray(0, buffer.length)]).toEqual([0, 0, 0, 0, 0, 0, 0, 0, 9, 10, 11, 12]);
    expect(buffer.fetch(memory.access, call, 0x90000, 4)).toBe(Absent);
    expect(buffer.length).toBe(0);
  });

  it('tells the recorder what calls read and wrote, and nothing of others', () => {
    const seen: unknown[] = [];
    const { access, subjects } = memory;
    access.onCallRead = (plane, gpa, bytes, offset, length) => seen.push(['read', plane, gpa, ...bytes.subarray(offset, offset + length)]);
    access.onCallWrite = (plane, gpa, bytes, offset, length) => seen.push(['write', plane, gpa, ...bytes.subarray(offset, offset + length)]);
    for (const who of [subjects[1]!.cpu, subjects[1]!.walk, subjects[1]!.device, HOST, subjects[2]!.call]) {
      access.writeU16(who, 8, 0x0201);
      access.readU16(who, 8);
      access.read(who, 8, into, 3, 3);
    }
    memory.permissions[2]!.set(0, 1, 0);
    access.readU16(subjects[2]!.call, 8);
    expect(seen).toEqual([['write', 2, 8, 1, 2], ['read', 2, 8, 1, 2], ['read', 2, 8, 1, 2, 0]]);
  });
});

it('bulk copies of any length and place equal a flat array', () => {
  const flat = new Uint8Array(16 * PAGE);
  fc.assert(
    fc.property(fc.nat(16 * PAGE - 1), fc.nat(3 * PAGE), fc.nat(255), (gpa, wanted, from) => {
      const length = Math.min(wanted, 16 * PAGE - gpa);
      const bytes = pattern(length + 3, from);
      expect(memory.access.write(memory.subjects[0]!.cpu, gpa, bytes, 3, length)).toBe(Ok);
      flat.set(bytes.subarray(3), gpa);
      const at = Math.max(0, Math.min(gpa - 7, 13 * PAGE));
      expect(memory.access.read(memory.subjects[1]!.device, at, into, 0, 3 * PAGE)).toBe(Ok);
      expect(Buffer.compare(into, flat.subarray(at, at + 3 * PAGE))).toBe(0);
    }),
    { numRuns: 60 },
  );
});
