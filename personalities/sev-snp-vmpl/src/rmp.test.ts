import { ALL_PLANES, ALL_RIGHTS, AccessResult, Arena, type MemoryFaultExit, MemoryFaultInfo, type MemoryObserver, PageTree, type PlaneContext, Right, Side } from '@vmplanes/engine';
import { WalkKind, X86 } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Rmp, RmpCause, type SnpContext, type SnpPlane } from './ports.ts';
import { RmpChapter } from './rmp.ts';

// The chapter over a memory that is two arrays, and an architecture that translates as it is told.

const PAGES = 2048;
const OUTSIDE = PAGES;
type Run = (context: PlaneContext) => MemoryFaultExit | null;

class Fake {
  readonly privacy = new Uint8Array(PAGES + 8);
  readonly permissions = [0, 1, 2, 3].map(() => new PageTree(ALL_RIGHTS));
  readonly discarded: unknown[] = [];
  readonly faults: unknown[] = [];
  readonly stored: unknown[] = [];
  readonly refusedEvents: unknown[] = [];
  readonly inUse = new Set<number>();
  readonly arena = new Arena(new ArrayBuffer(0x8000));
  readonly runs = new Map<string, Run>();
  observer: MemoryObserver | null = null;
  readonly features = { machineLo: 0, has: (_plane: unknown, bit: number) => ((this.features.machineLo >>> bit) & 1) !== 0 };
  readonly options = { refusedAccess: 'exit' };
  readonly machine = { memory: {}, arena: this.arena, isWhole: true };
  out = { kind: -1 as number, isWalk: false, gpa: 0, level: 1, pageShift: 12, errorCode: 0, cr2Lo: 0, cr2Hi: 0 };
  side: number = Side.Private;
  walked: unknown[] = [];
  readonly rmp: RmpChapter;
  readonly snp: SnpContext;

  constructor(level = 'sev-snp') {
    const memory = {
      maxPlanes: 4,
      permissions: this.permissions,
      slots: { find: (gpn: number) => (gpn < PAGES ? {} : null) },
      isPrivate: (gpn: number) => this.privacy[gpn] === 1,
      nextPrivacyChange: (gpn: number) => {
        let at = gpn + 1;
        while (at < PAGES && this.privacy[at] === this.privacy[gpn]) at++;
        return at;
      },
      setPrivate: (first: number, count: number, to: boolean) => {
        const changes = this.privacy.subarray(first, first + count).some((p) => (p === 1) !== to);
        this.privacy.fill(to ? 1 : 0, first, first + count);
        if (changes) this.observer?.translationsRevoked(ALL_PLANES, first, count, ALL_RIGHTS);
        return changes;
      },
      discard: (first: number, count: number, isPrivate: boolean) => void this.discarded.push([first, count, isPrivate]),
      observe: (observer: MemoryObserver) => void (this.observer = observer),
    };
    this.machine.memory = memory;
    const arch = {
      contribute: ({ mnemonic, run }: { mnemonic: string; run: Run }) => void this.runs.set(mnemonic, run),
      injectFault: (_context: unknown, fault: unknown) => void this.faults.push(fault),
      walk: (_context: unknown, ...args: unknown[]) => {
        this.walked = args;
        return this.out;
      },
      walkedAs: () => ({ side: this.side }),
      describeWalkRefusal: (_context: unknown, info: MemoryFaultInfo) => void (info.gpa = 0x77),
    };
    const snp = {
      level,
      options: this.options,
      arch,
      machine: this.machine,
      chapters: {
        features: this.features,
        vmsas: { isInUse: (gpn: number) => this.inUse.has(gpn), store: (_plane: unknown, ...words: unknown[]) => void this.stored.push(words) },
      },
      refuse: (_plane: unknown, ...args: unknown[]) => {
        this.refusedEvents.push(args);
        return 'refuse';
      },
    };
    this.snp = snp as object as SnpContext;
    this.rmp = new RmpChapter(this.snp);
    this.archOf = arch as never;
  }
  readonly archOf: { executeRightsByMode?: boolean; executeRightsIgnoreSmep?: boolean };

  /** A page of the guest's, valid. */
  valid(gpn: number, perms: [number, number, number] = [0, 0, 0], vmsa = false): void {
    this.rmp.launch(gpn, perms, vmsa);
  }
  large(gpn: number, validated = true): void {
    this.rmp.assign(gpn, 512, true, true);
    if (validated) this.rmp.validate(gpn, true, true);
  }
  rights(gpn: number): number[] {
    return this.permissions.map((p) => p.get(gpn));
  }
  entry(gpn: number): object {
    const e = this.rmp.entry(gpn);
    return { ...e, perms: [...e.perms] };
  }
}

const none = { assigned: false, validated: false, immutable: false, vmsa: false, large: false, foreign: false, perms: [0, 0, 0] };
const assigned = { ...none, assigned: true };
const valid = { ...assigned, validated: true };
const operand = (gpn: number, { isAssigned = 1, pagesize = 0, immutable = 0, reserved = 0, asid = 1, gpa = gpn * 4096 } = {}): Uint8Array => {
  // Inside of a larger buffer.
  const bytes = new Uint8Array(24).fill(0xee);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(4, BigInt(gpa), true);
  bytes.set([isAssigned, pagesize, immutable, reserved], 12);
  view.setUint32(16, asid, true);
  return bytes.subarray(4, 20);
};

let f: Fake;
beforeEach(() => {
  f = new Fake();
});

describe('pages that the host gives (APM vol. 2, 15.36.3)', () => {
  it('are assigned, not valid, empty, and nobody\'s to use', () => {
    f.rmp.assign(5, 2, true);
    expect([f.entry(4), f.entry(5), f.entry(6), f.entry(7)]).toEqual([none, assigned, assigned, none]);
    expect(f.discarded).toEqual([[5, 2, true], [5, 2, false]]);
    expect([f.rights(4), f.rights(5), f.rights(6), f.rights(7)]).toEqual([[31, 31, 31, 31], [0, 0, 0, 0], [0, 0, 0, 0], [31, 31, 31, 31]]);
  });
  it('keep what they hold when they are so already', () => {
    f.valid(5, [1, 2, 4]);
    f.rmp.assign(5, 1, true);
    expect([f.entry(5), f.discarded]).toEqual([{ ...valid, perms: [1, 2, 4] }, []]);
    f.rmp.assign(4, 3, true);
    expect([f.entry(4), f.entry(5), f.entry(6), f.discarded]).toEqual([assigned, { ...valid, perms: [1, 2, 4] }, assigned, [[4, 1, true], [4, 1, false], [6, 1, true], [6, 1, false]]]);
  });
  it('become shared again and lose all', () => {
    f.valid(5, [15, 15, 15]);
    f.rmp.assign(5, 1, false);
    expect([f.entry(5), f.rights(5), f.privacy[5]]).toEqual([none, [31, 31, 31, 31], 0]);
    f.discarded.length = 0;
    f.rmp.assign(5, 1, false);
    expect(f.discarded).toEqual([]);
  });
  it('a page that the VMM made private gets its entry', () => {
    f.privacy[9] = 1;
    f.rmp.assign(9, 1, true);
    expect([f.entry(9), f.rights(9), f.discarded.length]).toEqual([assigned, [0, 0, 0, 0], 2]);
  });
  it('entries of 2 MiB where 512 pages lie so', () => {
    f.rmp.assign(500, 1100, true, true);
    expect([500, 511, 512, 1023, 1024, 1535, 1536, 1599].map((gpn) => f.rmp.entry(gpn).large)).toEqual([false, false, true, true, true, true, false, false]);
    expect(f.rmp.broken()).toEqual([]);
    const g = new Fake();
    g.rmp.assign(512, 511, true, true);
    expect(g.rmp.entry(512).large).toBe(false);
    g.rmp.assign(1024, 512, true, false);
    expect(g.rmp.entry(1024).large).toBe(false);
  });
  it('a part that goes back divides its entry of 2 MiB', () => {
    f.large(512);
    f.rmp.assign(600, 10, false);
    expect([512, 599, 600, 609, 610, 1023].map((gpn) => f.entry(gpn))).toEqual([valid, valid, none, none, valid, valid]);
    f.large(1024);
    f.rmp.assign(1020, 10, false);
    expect([f.entry(1029), f.entry(1030), f.entry(1535)]).toEqual([none, valid, valid]);
    expect(f.rmp.broken()).toEqual([]);
  });
  it('immutable entries stay', () => {
    f.rmp.update(7, operand(7, { immutable: 1 }));
    f.privacy[7] = 1;
    f.rmp.assign(6, 3, false);
    f.rmp.assign(6, 3, true);
    expect([f.entry(6), f.entry(7), f.entry(8)]).toEqual([assigned, { ...assigned, immutable: true }, assigned]);
  });
  it('entries of another guest are made anew', () => {
    f.rmp.update(7, operand(7, { asid: 2 }));
    f.privacy[7] = 1;
    f.rmp.assign(7, 1, true);
    expect(f.entry(7)).toEqual(assigned);
  });
  it('launched pages are valid with masks of five bits, and 4 KiB', () => {
    f.large(512);
    f.rmp.launch(700, [0xff, 1, 2], true);
    expect([f.entry(700), f.entry(699), f.entry(701), f.rights(700)]).toEqual([{ ...valid, vmsa: true, perms: [31, 1, 2] }, valid, valid, [31, 31, 17, 18]]);
    f.rmp.launch(1023, [0, 0, 0], false);
    expect(f.entry(1023)).toEqual(valid);
    f.large(1024);
    f.rmp.launch(1023, [0, 0, 0], false);
    expect(f.rmp.entry(1024).large).toBe(true);
  });
  it('the VMM makes a private page shared: it is the guest\'s no longer', () => {
    f.large(512);
    f.privacy.fill(0, 600, 610);
    f.observer!.translationsRevoked(ALL_PLANES, 590, 30, ALL_RIGHTS);
    expect([599, 600, 609, 610].map((gpn) => f.entry(gpn))).toEqual([valid, none, none, valid]);
    expect([f.rights(600), f.rights(599)]).toEqual([[31, 31, 31, 31], [31, 16, 16, 16]]);
  });
  it.each([
    ['of one plane', (x: Fake) => x.observer!.translationsRevoked(1, 5, 1, ALL_RIGHTS)],
    ['of some rights', (x: Fake) => x.observer!.translationsRevoked(ALL_PLANES, 5, 1, 3)],
    ['of a restore', (x: Fake) => { x.machine.isWhole = false; x.observer!.translationsRevoked(ALL_PLANES, 5, 1, ALL_RIGHTS); }],
  ])('a change %s is no change of sides', (_name, change) => {
    f.valid(5);
    f.privacy[5] = 0;
    change(f);
    expect(f.entry(5)).toEqual(valid);
  });
  it('immutable pages stay although the VMM shares them', () => {
    f.rmp.update(7, operand(7, { immutable: 1 }));
    f.observer!.translationsRevoked(ALL_PLANES, 7, 1, ALL_RIGHTS);
    expect(f.entry(7)).toEqual({ ...assigned, immutable: true });
  });
  it('fetches go by mode under SNP; below it there is no table', () => {
    expect([f.archOf.executeRightsByMode, f.archOf.executeRightsIgnoreSmep]).toEqual([true, true]);
    const es = new Fake('sev-es');
    expect([es.archOf.executeRightsByMode, es.observer]).toEqual([undefined, null]);
    es.rmp.assign(5, 1, true);
    expect([es.rights(5), es.rmp.broken()]).toEqual([[31, 31, 31, 31], []]);
  });
});

describe('RMPUPDATE (APM vol. 3)', () => {
  const bad: readonly (readonly [name: string, gpn: number, Uint8Array])[] = [
    ['assigned 2', 5, operand(5, { isAssigned: 2 })], ['a size of 2', 512, operand(512, { pagesize: 2 })], ['immutable 2', 5, operand(5, { immutable: 2 })], ['a reserved byte', 5, operand(5, { reserved: 1 })],
    ['an address inside of a page', 5, operand(5, { gpa: 0x5800 })], ['2 MiB at a 4 KiB page', 513, operand(513, { pagesize: 1, gpa: 0x20_0000 })], ['2 MiB for an address between', 512, operand(512, { pagesize: 1, gpa: 0x20_1000 })],
    ['the host with an ASID', 5, operand(5, { isAssigned: 0 })], ['the host and immutable', 5, operand(5, { isAssigned: 0, asid: 0, immutable: 1 })], ['a guest without ASID', 5, operand(5, { asid: 0 })],
  ];
  it.each(bad)('%s is FAIL_INPUT', (_name, gpn, bytes) => expect(f.rmp.update(gpn, bytes)).toBe(1));
  it('assigns, leaves to the host, and keeps an entry that stays', () => {
    expect(f.rmp.update(5, operand(5))).toBe(0);
    expect([f.entry(5), f.rights(5)]).toEqual([assigned, [0, 0, 0, 0]]);
    f.privacy[5] = 1;
    f.rmp.validate(5, false, true);
    f.rmp.adjust(0, 5, false, 1, 3, true);
    expect(f.rmp.update(5, operand(5))).toBe(0);
    expect(f.entry(5)).toEqual({ ...valid, vmsa: true, perms: [3, 0, 0] });
    expect(f.rmp.update(5, operand(5, { isAssigned: 0, asid: 0 }))).toBe(0);
    expect(f.entry(5)).toEqual(none);
  });
  it('2 MiB at once, and the host\'s entries are never large', () => {
    expect(f.rmp.update(512, operand(512, { pagesize: 1 }))).toBe(0);
    expect([f.entry(511), f.entry(512), f.entry(1023), f.entry(1024)]).toEqual([none, { ...assigned, large: true }, { ...assigned, large: true }, none]);
    f.privacy.fill(1, 512, 1024);
    f.rmp.validate(512, true, true);
    f.rmp.adjust(0, 512, true, 2, 1, false);
    expect(f.rmp.update(512, operand(512, { pagesize: 1 }))).toBe(0);
    expect(f.entry(1023)).toEqual({ ...valid, large: true, perms: [0, 1, 0] });
    expect(f.rmp.update(512, operand(512, { pagesize: 1, isAssigned: 0, asid: 0 }))).toBe(0);
    expect([f.entry(512), f.entry(1023)]).toEqual([none, none]);
  });
  it('another owner or address is foreign and loses what the entry held', () => {
    f.valid(5, [1, 1, 1]);
    expect(f.rmp.update(5, operand(5, { asid: 9 }))).toBe(0);
    expect([f.entry(5), f.rights(5)]).toEqual([{ ...assigned, foreign: true }, [0, 0, 0, 0]]);
    expect(f.rmp.update(6, operand(6, { gpa: 0x9000 }))).toBe(0);
    expect([f.entry(6), f.rmp.read(6)]).toEqual([{ ...assigned, foreign: true }, 1n | (9n << 12n) | (1n << 51n)]);
    expect(f.rmp.read(5)).toBe(1n | (5n << 12n) | (9n << 51n));
    expect(f.rmp.update(5, operand(5))).toBe(0);
    expect([f.entry(5), f.rmp.read(5)]).toEqual([assigned, 1n | (5n << 12n) | (1n << 51n)]);
  });
  it('2 MiB of another guest: each page at its own address', () => {
    f.rmp.update(512, operand(512, { pagesize: 1, asid: 3, gpa: 0x40_0000 }));
    expect([f.rmp.read(512), f.rmp.read(515)].map((w) => (w >> 12n) & 0x7f_ffff_ffffn)).toEqual([0x400n, 0x403n]);
  });
  it('entries overlap: FAIL_OVERLAP; of the security processor: FAIL_PERMISSION; in use: FAIL_INUSE', () => {
    f.large(512);
    expect(f.rmp.update(512, operand(512))).toBe(4);
    expect(f.rmp.update(600, operand(600))).toBe(4);
    f.rmp.assign(1030, 1, true);
    expect(f.rmp.update(1024, operand(1024, { pagesize: 1 }))).toBe(4);
    f.rmp.update(7, operand(7, { immutable: 1 }));
    expect(f.rmp.update(7, operand(7))).toBe(2);
    f.rmp.assign(1030, 1, false);
    f.rmp.assign(1535, 1, true);
    expect(f.rmp.update(1024, operand(1024, { pagesize: 1 }))).toBe(4);
    f.rmp.assign(1535, 1, false);
    f.rmp.assign(1024, 1, true);
    expect(f.rmp.update(1024, operand(1024, { pagesize: 1 }))).toBe(0);
    expect(f.rmp.update(1024, operand(1024, { pagesize: 1, immutable: 1 }))).toBe(0);
    expect(f.rmp.update(1024, operand(1024, { pagesize: 1 }))).toBe(2);
    f.valid(9, [0, 0, 0], true);
    f.inUse.add(9).add(10);
    expect(f.rmp.update(9, operand(9))).toBe(3);
    f.valid(10);
    expect(f.rmp.update(10, operand(10))).toBe(0);
  });
  it('an immutable 4 KiB entry at the start of 2 MiB', () => {
    f.rmp.update(512, operand(512, { immutable: 1 }));
    expect(f.rmp.update(512, operand(512, { pagesize: 1 }))).toBe(2);
  });
});

describe('PSMASH and RMPREAD (APM vol. 3)', () => {
  it('divides an entry of 2 MiB and leaves all else', () => {
    f.large(512);
    f.rmp.adjust(0, 512, true, 1, 7, false);
    expect(f.rmp.smash(512)).toBe(0);
    expect([f.entry(512), f.entry(1023)]).toEqual([{ ...valid, perms: [7, 0, 0] }, { ...valid, perms: [7, 0, 0] }]);
    expect([f.rmp.smash(512), f.rmp.smash(513), f.rmp.smash(1024)]).toEqual([1, 1, 1]);
  });
  it('not of an immutable entry or one in use', () => {
    f.rmp.update(512, operand(512, { pagesize: 1, immutable: 1 }));
    expect(f.rmp.smash(512)).toBe(2);
    f.large(1024);
    f.rmp.adjust(0, 1024, true, 1, 0, true);
    f.inUse.add(1024);
    expect(f.rmp.smash(1024)).toBe(3);
  });
  it('the first word of an entry', () => {
    expect(f.rmp.read(5)).toBe(0n);
    f.valid(5, [0, 0, 0], true);
    expect(f.rmp.read(5)).toBe(1n | (5n << 12n) | (1n << 51n) | (1n << 61n) | (1n << 62n));
    f.large(512, false);
    expect(f.rmp.read(512)).toBe(3n | (512n << 12n) | (1n << 51n));
    f.rmp.update(7, operand(7, { immutable: 1, asid: 0x7ff }));
    expect(f.rmp.read(7)).toBe(5n | (7n << 12n) | (0x3ffn << 51n));
  });
});

describe('what the guest asks (APM vol. 2, 15.36.6, 15.36.7)', () => {
  it('PVALIDATE', () => {
    f.rmp.assign(5, 1, true);
    expect([f.rmp.validate(5, false, false), f.rmp.validate(5, false, true), f.rmp.validate(5, false, true), f.entry(5), f.rights(5)]).toEqual([0x100, 0, 0x100, valid, [31, 16, 16, 16]]);
    expect([f.rmp.validate(5, false, false), f.entry(5), f.rights(5)]).toEqual([0, assigned, [0, 0, 0, 0]]);
    f.large(512, false);
    expect([f.rmp.validate(512, true, true), f.entry(1023), f.rights(1023), f.entry(1024)]).toEqual([0, { ...valid, large: true }, [31, 16, 16, 16], none]);
    expect(f.rmp.validate(5, true, true)).toBe(6);
  });
  it('RMPADJUST', () => {
    f.valid(5);
    expect([f.rmp.adjust(0, 5, false, 1, 0xf, true), f.entry(5), f.rights(5)]).toEqual([0, { ...valid, vmsa: true, perms: [15, 0, 0] }, [31, 31, 16, 16]]);
    expect([f.rmp.adjust(1, 5, false, 2, 0x5, false), f.entry(5)]).toEqual([0, { ...valid, vmsa: true, perms: [15, 5, 0] }]);
    expect([f.rmp.adjust(2, 5, false, 3, 0x2, false), f.rmp.adjust(2, 5, false, 3, 0x4, true), f.entry(5)]).toEqual([2, 0, { ...valid, vmsa: true, perms: [15, 5, 4] }]);
    expect([f.rmp.adjust(0, 5, false, 0, 0, false), f.rmp.adjust(0, 5, false, 4, 0, false), f.rmp.adjust(2, 5, false, 2, 0, false), f.rmp.adjust(2, 5, false, 1, 0, false)]).toEqual([2, 2, 2, 2]);
    expect([f.rmp.adjust(0, 5, false, 1, 0x20, false), f.rmp.adjust(0, 5, true, 1, 1, false)]).toEqual([1, 6]);
    f.inUse.add(5);
    expect([f.rmp.adjust(0, 5, false, 3, 0, true), f.rmp.adjust(2, 5, false, 3, 2, true)]).toEqual([3, 2]);
    f.large(512);
    expect([f.rmp.adjust(0, 512, true, 3, 0x1f, false), f.entry(1023), f.entry(1024)]).toEqual([0, { ...valid, large: true, perms: [0, 0, 31] }, none]);
  });
  it('RMPQUERY', () => {
    f.valid(5, [1, 2, 4], true);
    expect([0, 1, 2, 3].map((t) => f.rmp.query(0, 5, t))).toEqual([0x1_1f00, 0x1_0100, 0x1_0200, 0x1_0400]);
    expect([f.rmp.query(2, 5, 1), f.rmp.query(2, 5, 2), f.rmp.query(0, 5, 4)]).toEqual([2, 0x1_0200, 2]);
    f.large(512);
    expect(f.rmp.query(0, 600, 1)).toBe(0x2_0000);
  });
  it('what is no status', () => {
    f.rmp.assign(6, 1, true);
    f.large(512);
    f.rmp.update(7, operand(7, { immutable: 1 }));
    f.rmp.update(8, operand(8, { asid: 2 }));
    f.privacy.fill(1, 7, 10);
    const all = (gpn: number): number[] => [f.rmp.validate(gpn, false, true), f.rmp.adjust(0, gpn, false, 1, 0, false), f.rmp.query(0, gpn, 1)];
    expect(all(5)).toEqual([-1, -1, -1]);
    expect(all(OUTSIDE)).toEqual([-1, -1, -1]);
    expect([all(7), all(8), all(9)]).toEqual([[-2, -2, -2], [-2, -2, -2], [-2, -2, -2]]);
    expect(all(600)).toEqual([-3, -3, 0x2_0000]);
    expect([f.rmp.adjust(0, 6, false, 1, 0, false), f.rmp.query(0, 6, 1), f.rmp.adjust(0, 6, true, 1, 0, false)]).toEqual([-4, -4, -4]);
  });
  it.each([[1, 17], [2, 18], [4, 24], [8, 20], [0xf, 31], [0x10, 16]])('mask %i is rights %i without shadow-stack checks (APM vol. 2, Table 15-38)', (mask, rights) => {
    f.valid(5, [mask, 0, mask]);
    expect(f.rights(5)).toEqual([31, rights, 16, rights]);
  });
  it.each([[0x10, 16], [0x11, 17], [0x12, 2], [0x02, 2], [0x0f, 15], [0x1d, 29]])('mask %i is rights %i with shadow-stack checks', (mask, rights) => {
    f.features.machineLo = 1 << 8;
    f.valid(5, [mask, 0, 0]);
    expect(f.rights(5)).toEqual([31, rights, 0, 0]);
  });
  it('state that the second stage does not show is broken', () => {
    f.valid(5);
    expect(f.rmp.broken()).toEqual([]);
    f.permissions[2]!.set(5, 1, 1);
    expect(f.rmp.broken()).toEqual([expect.stringMatching(/0x5: rights of VMPL2/)]);
  });
  it('is saved and restored', () => {
    f.valid(5, [1, 2, 3], true);
    const other = new Fake();
    other.rmp.restore(f.rmp.save());
    expect([other.entry(5), other.rmp.save()]).toEqual([{ ...valid, vmsa: true, perms: [1, 2, 3] }, f.rmp.save()]);
  });
});

// -- instructions ------------------------------------------------------------------------------------------------------

const BASE = 0x1000;
const ctx = (plane = 0): PlaneContext => ({ base: BASE, plane, instructionLength: 4, vp: { index: 3, replies: { retry: () => 'retry', exit: (p: unknown, c: unknown) => ['exit', p, c], switchTo: (...a: unknown[]) => ['switch', ...a] } } }) as object as PlaneContext;
const cell = (name: 'rax' | 'rcx' | 'rdx' | 'rflags' | 'efer' | 'cs.attributes' | 'cpl', value: bigint): void => f.arena.view.setBigUint64(BASE + X86[name], value, true);
const get = (name: 'rax' | 'rcx' | 'rdx' | 'rflags'): bigint => f.arena.view.getBigUint64(BASE + X86[name], true);
const run = (name: string, rax: bigint, rcx: bigint, rdx: bigint, plane = 0): MemoryFaultExit | null => {
  f.faults.length = 0;
  cell('rax', rax);
  cell('rcx', rcx);
  cell('rdx', rdx);
  f.out.gpa = Number(rax & 0xffff_ffffn);
  return f.runs.get(name)!(ctx(plane));
};
const ALL_FLAGS = 0x8d5n;
const long = (): void => {
  cell('efer', 0x400n);
  f.arena.view.setUint32(BASE + X86['cs.attributes'], 0x200, true);
  f.arena.view.setUint32(BASE + X86.cpl, 0, true);
  cell('rflags', ALL_FLAGS | 0x202n);
};

describe('instructions (APM vol. 3, PVALIDATE, RMPADJUST, RMPQUERY)', () => {
  beforeEach(long);
  it('PSMASH, RMPUPDATE and RMPREAD do not exist in a guest', () => {
    for (const name of ['psmash', 'rmpupdate', 'rmpread']) {
      expect(run(name, 0n, 0n, 0n)).toBe(null);
      expect([name, f.faults]).toEqual([name, [{ code: 6, errorCode: null, addressLo: 0, addressHi: 0 }]]);
    }
  });
  it('status and flags: as adding zero to EAX leaves them, CF of PVALIDATE is "unchanged"', () => {
    f.rmp.assign(5, 1, true);
    expect(run('pvalidate', 0x5000n, 0n, 1n)).toBe(null);
    expect([get('rax'), get('rflags'), f.faults, f.rmp.entry(5).validated]).toEqual([0n, 0x246n, [], true]);
    run('pvalidate', 0x5000n, 0n, 1n);
    expect([get('rax'), get('rflags')]).toEqual([0n, 0x247n]);
    run('pvalidate', 0x5000n, 0n, 2n);
    expect([get('rflags'), f.rmp.entry(5).validated]).toEqual([0x246n, false]);
    run('pvalidate', 0x5000n, 2n, 1n);
    expect([get('rax'), get('rflags')]).toEqual([1n, 0x202n]);
    cell('rflags', 0x203n);
    run('rmpadjust', 0x5000n, 0n, 0n);
    expect([get('rax'), get('rflags')]).toEqual([2n, 0x203n]);
  });
  it('parity of a status: even for 3 and 6, odd for 1, 2 and 4', () => {
    f.valid(5, [0, 0, 0], true);
    f.inUse.add(5);
    run('rmpadjust', 0x5000n, 0n, 1n);
    expect([get('rax'), get('rflags') & ALL_FLAGS]).toEqual([3n, 5n]);
    f.out.pageShift = 12;
    run('pvalidate', 0n, 1n, 1n);
    expect([get('rax'), get('rflags') & ALL_FLAGS]).toEqual([6n, 4n]);
  });
  const ud = { code: 6, errorCode: null, addressLo: 0, addressHi: 0 };
  const gp = { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 };
  it.each(['pvalidate', 'rmpadjust', 'rmpquery'])('%s: first the mode, then the privilege level', (name) => {
    f.arena.view.setUint32(BASE + X86.cpl, 3, true);
    run(name, 0n, 0n, 1n);
    expect(f.faults).toEqual([gp]);
    cell('efer', 0n);
    run(name, 0n, 0n, 1n);
    expect(f.faults).toEqual([name === 'pvalidate' ? gp : ud]);
    cell('efer', 0x400n);
    f.arena.view.setUint32(BASE + X86['cs.attributes'], 0, true);
    run(name, 0n, 0n, 1n);
    expect(f.faults).toEqual([name === 'pvalidate' ? gp : ud]);
    f = new Fake('sev-es');
    long();
    run(name, 0n, 0n, 1n);
    expect(f.faults).toEqual([ud]);
  });
  it('PVALIDATE is VMPL0\'s', () => {
    run('pvalidate', 0n, 9n, 1n, 1);
    expect(f.faults).toEqual([gp]);
  });
  it('sizes and alignment', () => {
    f.large(512, false);
    f.out.pageShift = 21;
    const sizes = (rax: bigint, rcx: bigint): bigint => (run('pvalidate', rax, rcx, 1n), get('rax'));
    expect([sizes(0x20_1000n, 1n), sizes(0x20_0000n, 2n), sizes(0x30_0000n, 1n)]).toEqual([1n, 1n, 1n]);
    expect(sizes(0x20_0000n, 0xffff_0000_0000n | 1n)).toBe(0n);
    expect([run('rmpadjust', 0x20_0000n, 0x1_0000_0001n, 1n), get('rax')]).toEqual([null, 1n]);
    expect([run('rmpadjust', 0x20_0000n, 1n, 0x301n), get('rax'), f.rmp.entry(1023).perms.slice()]).toEqual([null, 0n, [3, 0, 0]]);
    f.out.pageShift = 20;
    expect([run('rmpadjust', 0x20_0000n, 1n, 1n), get('rax')]).toEqual([null, 6n]);
    expect([run('pvalidate', 0x20_0000n, 1n, 0n), get('rax'), get('rflags') & 1n]).toEqual([null, 6n, 0n]);
    f.out.level = 0;
    expect([run('pvalidate', 0x20_0000n, 1n, 0n), get('rax')]).toEqual([null, 0n]);
  });
  it('operand bits of RMPADJUST and RMPQUERY', () => {
    f.valid(5);
    const adjust = (rdx: bigint, plane = 0): bigint => (run('rmpadjust', 0x5000n, 0n, rdx, plane), get('rax'));
    expect([adjust(0x1_0301n), f.entry(5)]).toEqual([0n, { ...valid, vmsa: true, perms: [3, 0, 0] }]);
    expect([adjust(0x0302n), f.entry(5)]).toEqual([0n, { ...valid, perms: [3, 3, 0] }]);
    expect([adjust(0x2_0001n), adjust(0x8000_0001n), adjust(0x1_0000_0001n), adjust(0x2001n), adjust(0x8001n), adjust(4n), adjust(0n), adjust(1n, 1), adjust(0x2_0000n)]).toEqual([1n, 1n, 1n, 1n, 1n, 2n, 2n, 2n, 2n]);
    const query = (rdx: bigint, plane = 0): bigint[] => (run('rmpquery', 0x5000n, 0x55n, rdx, plane), [get('rax'), get('rcx'), get('rdx')]);
    expect([query(1n), query(2n, 2), query(0n)]).toEqual([[0n, 0n, 0x301n], [0n, 0n, 0x302n], [0n, 0n, 0x1f00n]]);
    expect([query(1n, 2)[0], query(4n)[0], query(0x2_0001n)[0], query(0x1_0000_0001n)[0]]).toEqual([2n, 2n, 1n, 1n]);
    f.valid(5, [1, 0, 0], true);
    expect(query(1n)[2]).toBe(0x1_0101n);
    f.large(512);
    run('rmpquery', 0x20_5000n, 0n, 1n);
    expect([get('rax'), get('rcx'), get('rdx')]).toEqual([0n, 1n, 1n]);
  });
  it('the address: a #PF, a #GP, or a refused table', () => {
    f.out.kind = WalkKind.Fault;
    Object.assign(f.out, { errorCode: 9, cr2Lo: 0x11, cr2Hi: 0x22 });
    expect([run('pvalidate', 0x8765_4321_0000_5000n, 0n, 1n), f.faults]).toEqual([null, [{ code: 14, errorCode: 9, addressLo: 0x11, addressHi: 0x22 }]]);
    expect(f.walked.slice(0, 2)).toEqual([0x5000, 0x8765_4321]);
    f.out.kind = WalkKind.NotCanonical;
    expect([run('rmpquery', 0x5000n, 0n, 1n), f.faults]).toEqual([null, [gp]]);
    f.out.kind = WalkKind.Stage2;
    f.out.isWalk = true;
    const exit = run('rmpadjust', 0x8765_4321_0000_5000n, 0n, 1n);
    expect([exit!.kind, { ...exit!.info, instruction: null }]).toEqual(['memoryFault', { ...new MemoryFaultInfo(), instruction: null, gpa: 0x77, gvaLo: 0x5000, gvaHi: 0x8765_4321, hasGva: true, instructionLength: 4 }]);
    // The final page may be refused: the table of pages says what comes of that.
    f.out.isWalk = false;
    f.rmp.assign(5, 1, true);
    expect([run('pvalidate', 0x5000n, 0n, 1n), get('rax')]).toEqual([null, 0n]);
    cell('efer', 0n);
    run('pvalidate', 0x8765_4321_0000_5000n, 0n, 1n);
    expect(f.walked.slice(0, 2)).toEqual([0x5000, 0]);
  });
  it('what the table refuses leaves as a fault of the operand', () => {
    const exit = run('pvalidate', 0x1_0000_5000n, 0n, 1n)!;
    expect([exit, { ...exit.info, instruction: null }]).toEqual([
      expect.objectContaining({ kind: 'memoryFault', key: 0, cause: RmpCause.NotMapped }),
      { ...new MemoryFaultInfo(), instruction: null, gpa: 0x5000, gvaLo: 0x5000, gvaHi: 1, hasGva: true, access: Right.Read, isPrivate: true, result: AccessResult.Mismatch, instructionLength: 4 },
    ]);
    f.rmp.update(6, operand(6, { immutable: 1 }));
    f.privacy[6] = 1;
    const entry = run('rmpquery', 0x6000n, 0n, 1n, 1)!;
    expect([entry, entry.info.result, entry.info.plane]).toEqual([expect.objectContaining({ cause: RmpCause.Entry }), AccessResult.Denied, 1]);
    f.side = Side.Shared;
    for (const name of ['pvalidate', 'rmpadjust', 'rmpquery']) {
      expect((run(name, 0x5000n, 0n, 1n) as object as { cause: number }).cause).toBe(RmpCause.Entry);
      expect((run(name, 0x6000n, 0n, 1n) as object as { cause: number }).cause).toBe(RmpCause.NotMapped);
    }
    f.side = Side.Private;
    f.large(512);
    expect((run('rmpadjust', 0x20_1000n, 0n, 1n) as object as { cause: number }).cause).toBe(RmpCause.SizeMismatch);
  });
});

// -- refused accesses --------------------------------------------------------------------------------------------------

describe('refused accesses (APM vol. 2, 15.36.10)', () => {
  const refuse = (info: Partial<MemoryFaultInfo>, plane = 2): unknown => {
    f.stored.length = 0;
    const full = Object.assign(new MemoryFaultInfo(), { gpa: 0x5123, access: Right.Read, isPrivate: true, result: AccessResult.Denied }, info);
    return f.rmp.refused({ context: ctx(plane) } as object as SnpPlane, { kind: 'memoryFault', key: 0, info: full });
  };
  const NPF = 0x400;
  const told = (kind: string, access: string, errorLo: number, errorHi: number, gpa = 0x5123): unknown => ['exit', { kind, vp: 3, plane: 2, gpa, access, errorLo, errorHi }, { owner: 'sev-snp-vmpl', kind: 'refused', data: {}, reply: null }];
  it('a page on the other side: the host is told as of any fault, the save area has no RMP bit', () => {
    expect([refuse({ result: AccessResult.Mismatch, gpa: 0x3_0000_5123 }), f.stored]).toEqual([null, [[NPF, 4, 5, 0x5123, 3]]]);
    expect([refuse({ result: AccessResult.Mismatch, isPrivate: false }), f.stored]).toEqual([null, [[NPF, 4, 1, 0x5123, 0]]]);
  });
  it('what has nothing to do with the table is none of its business', () => {
    expect([refuse({ result: AccessResult.Absent }), refuse({ result: AccessResult.ReadOnly }), refuse({ isPrivate: false }), f.stored]).toEqual([null, null, null, []]);
  });
  it('a page that is not valid: #VC 0x404', () => {
    f.rmp.assign(5, 1, true);
    expect([refuse({}), f.refusedEvents]).toEqual(['refuse', [[0x404, 0, 0x5123]]]);
  });
  it.each([
    [Right.Read, 'read', 0x8000_0005], [Right.Write, 'write', 0x8000_0007], [Right.ExecSupervisor, 'execute', 0x8000_0015], [Right.ExecUser, 'execute', 0x8000_0015], [Right.Read | Right.Write, 'write', 0x8000_0007], [Right.ShadowStack, 'read', 0x8000_0045],
  ])('rights %i that a VMPL lacks: %s', (access, name, lo) => {
    f.valid(5);
    expect([refuse({ access, missing: access }), f.stored]).toEqual([told('vmplFault', name, lo, 0x15), [[NPF, lo, 0x15, 0x5123, 0]]]);
  });
  it('met in a table of the guest; of a shadow stack with its checks', () => {
    f.valid(5);
    expect(refuse({ isWalk: true })).toEqual(told('vmplFault', 'read', 0x8000_0005, 0x16));
    f.features.machineLo = 1 << 8;
    expect(refuse({ access: Right.ShadowStack, missing: Right.ShadowStack })).toEqual(told('vmplFault', 'read', 0x8000_0045, 0x35));
    expect(refuse({ access: Right.Read, missing: Right.Read })).toEqual(told('vmplFault', 'read', 0x8000_0005, 0x15));
  });
  it('goes to VMPL0 where it may', () => {
    f.valid(5);
    f.options.refusedAccess = 'vmpl0';
    expect(refuse({})).toEqual(['switch', 0, 'vmpl-fault', 'stopped', 'held']);
    expect(refuse({}, 1)).toEqual(['switch', 0, 'vmpl-fault', 'stopped', 'held']);
    expect((refuse({}, 0) as unknown[])[0]).toBe('exit');
    f.rmp.update(6, operand(6, { immutable: 1 }));
    expect(refuse({ gpa: 0x6000 })).toEqual(told('rmpFault', 'read', 0x8000_0005, 5, 0x6000));
  });
  it('an entry of somebody else, or one that is assigned, met with C=0', () => {
    f.rmp.update(6, operand(6, { immutable: 1 }));
    f.rmp.update(7, operand(7, { asid: 2 }));
    f.rmp.update(8, operand(8));
    for (const gpa of [0x6000, 0x7000]) expect(refuse({ gpa })).toEqual(told('rmpFault', 'read', 0x8000_0005, 5, gpa));
    expect(refuse({ gpa: 0x8000, isPrivate: false })).toEqual(told('rmpFault', 'read', 0x8000_0005, 1, 0x8000));
  });
  it('a private page without entry gets one, and the access is made again', () => {
    f.privacy[5] = 1;
    expect([refuse({}), f.entry(5), f.entry(6)]).toEqual(['retry', assigned, none]);
  });
  it('an operand in a larger entry: the host divides it', () => {
    f.large(512);
    long();
    const exit = run('rmpadjust', 0x20_1000n, 0n, 1n)!;
    expect([f.rmp.refused({ context: ctx() } as object as SnpPlane, exit), f.rmp.entry(512).large]).toEqual(['retry', false]);
    const table: Rmp = f.rmp;
    expect(table.stateName).toBe('rmp');
  });
});
