import { Access, PageFault, Privilege, WalkKind } from '@vmplanes/x86';
import { describe, expect, test } from 'vitest';
import { A, CET, D, P, PKE, PKS, RW, SMAP, SMEP, US, WP, Walker, XD } from './walker.ts';

const { Read, Write, Fetch, ShadowRead, ShadowWrite } = Access;
const { User, Supervisor, Implicit } = Privilege;
const USER_RW = P | RW | US, USER_RO = P | US, SUP_RW = P | RW, SUP_RO = P;
const all = { W: PageFault.W, U: PageFault.U, ID: PageFault.ID, PK: PageFault.PK, SS: PageFault.SS };
const code = (text: string): number => text.split(' ').reduce((c, name) => c | (name === 'P' ? 1 : all[name as keyof typeof all]), 0);

/** [page, CR0 and CR4 bits, AC, privilege, access, error code or 'ok']: one row per sentence of the manual. */
const rows: readonly (readonly [name: string, leaf: bigint, cr0: number, cr4: number, ac: boolean, by: Privilege, access: Access, expected: string])[] = [
  // Supervisor-mode accesses, data reads
  ['supervisor reads supervisor page', SUP_RO, WP, SMEP | SMAP, false, Supervisor, Read, 'ok'],
  ['supervisor reads user page without SMAP', USER_RO, WP, 0, false, Supervisor, Read, 'ok'],
  ['supervisor reads user page under SMAP', USER_RW, WP, SMAP, false, Supervisor, Read, 'P'],
  ['supervisor reads user page under SMAP with AC', USER_RW, WP, SMAP, true, Supervisor, Read, 'ok'],
  ['implicit access to user page under SMAP: AC does not count', USER_RW, WP, SMAP, true, Implicit, Read, 'P'],
  ['implicit access to user page without SMAP', USER_RW, WP, 0, false, Implicit, Read, 'ok'],
  // Supervisor-mode accesses, data writes
  ['supervisor writes read-only supervisor page, WP=0', SUP_RO, 0, 0, false, Supervisor, Write, 'ok'],
  ['supervisor writes read-only supervisor page, WP=1', SUP_RO, WP, 0, false, Supervisor, Write, 'P W'],
  ['supervisor writes read-only user page, WP=0', USER_RO, 0, 0, false, Supervisor, Write, 'ok'],
  ['supervisor writes read-only user page, WP=1', USER_RO, WP, 0, false, Supervisor, Write, 'P W'],
  ['supervisor writes user page under SMAP, WP=0', USER_RO, 0, SMAP, false, Supervisor, Write, 'P W'],
  ['supervisor writes read-only user page under SMAP with AC, WP=0', USER_RO, 0, SMAP, true, Supervisor, Write, 'ok'],
  ['supervisor writes read-only user page under SMAP with AC, WP=1', USER_RO, WP, SMAP, true, Supervisor, Write, 'P W'],
  ['supervisor writes user page under SMAP with AC, WP=1', USER_RW, WP, SMAP, true, Supervisor, Write, 'ok'],
  // Supervisor-mode accesses, fetches
  ['supervisor fetches supervisor page', SUP_RO, WP, SMEP, false, Supervisor, Fetch, 'ok'],
  ['supervisor fetches execute-disabled page', SUP_RO | XD, WP, 0, false, Supervisor, Fetch, 'P ID'],
  ['supervisor fetches user page without SMEP', USER_RO, WP, 0, false, Supervisor, Fetch, 'ok'],
  ['supervisor fetches user page under SMEP', USER_RO, WP, SMEP, false, Supervisor, Fetch, 'P ID'],
  ['supervisor fetches user page under SMEP: AC does not help', USER_RO, WP, SMEP, true, Supervisor, Fetch, 'P ID'],
  ['supervisor fetches user page under SMAP alone', USER_RO, WP, SMAP, false, Supervisor, Fetch, 'ok'],
  // User-mode accesses
  ['user reads user page', USER_RO, WP, SMAP | SMEP, false, User, Read, 'ok'],
  ['user reads supervisor page', SUP_RW, WP, 0, false, User, Read, 'P U'],
  ['user writes user page', USER_RW, 0, 0, false, User, Write, 'ok'],
  ['user writes read-only user page, WP=0', USER_RO, 0, 0, false, User, Write, 'P W U'],
  ['user writes supervisor page', SUP_RW, 0, 0, false, User, Write, 'P W U'],
  ['user fetches user page', USER_RO, 0, SMEP, false, User, Fetch, 'ok'],
  ['user fetches execute-disabled user page', USER_RW | XD, 0, 0, false, User, Fetch, 'P U ID'],
  ['user fetches supervisor page', SUP_RW, 0, 0, false, User, Fetch, 'P U ID'],
  ['user reads execute-disabled user page', USER_RW | XD, 0, 0, false, User, Read, 'ok'],
  // Shadow-stack accesses
  ['user shadow stack', USER_RO | D, WP, CET, false, User, ShadowWrite, 'ok'],
  ['user shadow-stack read of an ordinary page', USER_RW | D, WP, CET, false, User, ShadowRead, 'P U SS'],
  ['user shadow-stack read of a clean read-only page', USER_RO, WP, CET, false, User, ShadowRead, 'P U SS'],
  ['user shadow-stack write to a supervisor shadow stack', SUP_RO | D, WP, CET, false, User, ShadowWrite, 'P W U SS'],
  ['supervisor shadow stack', SUP_RO | D, WP, CET, false, Supervisor, ShadowRead, 'ok'],
  ['supervisor shadow-stack write to a user shadow stack', USER_RO | D, WP, CET, false, Supervisor, ShadowWrite, 'P W SS'],
  ['user data write to its shadow stack', USER_RO | D, WP, CET, false, User, Write, 'P W U'],
  ['user data read of its shadow stack', USER_RO | D, WP, CET, false, User, Read, 'ok'],
];

describe('access rights (SDM 3A §4.6.1)', () => {
  test.each(rows)('%s', (_, leaf, cr0, cr4, ac, by, access, expected) => {
    const w = new Walker('4-level').chain(USER_RW, USER_RW, USER_RW, leaf);
    w.input.cr0 |= cr0;
    w.input.cr4 |= cr4;
    w.input.ac = ac;
    const kind = w.walk(0n, access, by);
    if (expected === 'ok') expect(kind).toBe(WalkKind.Mapped);
    else expect([kind, w.out.errorCode]).toEqual([WalkKind.Fault, code(expected)]);
  });

  test.each([0, 1, 2, 3])('every level counts: R/W, U/S and XD taken away at depth %i', (depth) => {
    for (const [entry, access, expected] of [[USER_RO, Write, 'P W U'], [SUP_RW, Read, 'P U'], [USER_RW | XD, Fetch, 'P U ID']] as const) {
      const entries = [USER_RW, USER_RW, USER_RW, USER_RW];
      entries[depth] = entry;
      const w = new Walker('4-level').chain(...entries);
      expect([w.walk(0n, access, User), w.out.errorCode]).toEqual([WalkKind.Fault, code(expected)]);
    }
  });

  test('a shadow stack needs R/W at every level above the leaf', () => {
    const w = new Walker('4-level').chain(USER_RW, USER_RO, USER_RW, USER_RO | D);
    w.input.cr0 |= WP;
    w.input.cr4 |= CET;
    expect([w.walk(0n, ShadowRead, User), w.out.errorCode]).toEqual([WalkKind.Fault, code('P U SS')]);
  });

  test.each([
    ['4-level without NXE and SMEP', 0, 0, 'P U'], ['without NXE, with SMEP', 0, SMEP, 'P U ID'],
  ] as const)('the fetch bit of the error code: %s', (_, efer, cr4, expected) => {
    const w = new Walker('4-level').chain(USER_RW, USER_RW, USER_RW, SUP_RW);
    w.input.efer = 0x100 | efer;
    w.input.cr4 |= cr4;
    expect([w.walk(0n, Fetch, User), w.out.errorCode]).toEqual([WalkKind.Fault, code(expected)]);
  });
});

/** [name, page, WP, key register bits of key 5: AD=1 WD=2, privilege, access, expected]. @spec SDM 3A §4.6.2 */
const keyRows: readonly (readonly [string, bigint, number, number, Privilege, Access, string])[] = [
  ['no rights removed', USER_RW, WP, 0, User, Write, 'ok'],
  ['AD stops user reads', USER_RW, WP, 1, User, Read, 'P U PK'],
  ['AD stops supervisor reads of user pages', USER_RW, WP, 1, Supervisor, Read, 'P PK'],
  ['AD does not stop fetches', USER_RW, WP, 1, User, Fetch, 'ok'],
  ['WD lets reads pass', USER_RW, WP, 2, User, Read, 'ok'],
  ['WD stops user writes, WP=0', USER_RW, 0, 2, User, Write, 'P W U PK'],
  ['WD stops supervisor writes, WP=1', USER_RW, WP, 2, Supervisor, Write, 'P W PK'],
  ['WD lets supervisor writes pass, WP=0', USER_RW, 0, 2, Supervisor, Write, 'ok'],
  ['read-only page and WD together', USER_RO, WP, 2, User, Write, 'P W U PK'],
  ['supervisor page: AD of PKRS', SUP_RW, WP, 1, Supervisor, Read, 'P PK'],
  ['supervisor page: WD of PKRS, WP=1', SUP_RW, WP, 2, Supervisor, Write, 'P W PK'],
  ['supervisor page: WD of PKRS, WP=0', SUP_RW, 0, 2, Supervisor, Write, 'ok'],
  ['user access to a supervisor page under AD of PKRS', SUP_RW, WP, 1, User, Read, 'P U PK'],
];

describe('protection keys (SDM 3A §4.6.2)', () => {
  test.each(keyRows)('%s', (_, leaf, cr0, key, by, access, expected) => {
    const w = new Walker('4-level').chain(USER_RW, USER_RW, USER_RW, leaf | (5n << 59n));
    w.input.cr0 |= cr0;
    w.input.cr4 |= PKE | PKS;
    const user = (leaf & US) !== 0n;
    // The other register denies everything but must not matter.
    w.input.pkru = user ? key << 10 : -1;
    w.input.pkrs = user ? -1 : key << 10;
    const kind = w.walk(0n, access, by);
    if (expected === 'ok') expect([kind, w.out.pkey]).toEqual([WalkKind.Mapped, 5]);
    else expect([kind, w.out.errorCode]).toEqual([WalkKind.Fault, code(expected)]);
  });

  test.each([['PKE off', '4-level', 0], ['PAE paging', 'PAE', PKE | PKS]] as const)('keys mean nothing with %s', (_, mode, cr4) => {
    const w = new Walker(mode).chain(...(mode === 'PAE' ? [USER_RW, USER_RW] : [USER_RW, USER_RW, USER_RW, USER_RW]));
    w.input.cr4 |= cr4;
    w.input.pkru = w.input.pkrs = -1;
    expect(w.walk(0n, Write, User)).toBe(WalkKind.Mapped);
  });
});

describe('execute rights of the second stage by mode', () => {
  // Which right a fetch asks for: that of the page, or that of the mode; with SMEP offered and off, the supervisor's. @spec TLFS, Virtual Secure Mode: Mode Based Execution Control
  test.each([
    ['by page, supervisor fetches a user page', false, true, 0, 1, true],
    ['by mode, supervisor fetches a user page, SMEP offered and off', true, true, 0, 1, false],
    ['by mode, user fetches a user page, SMEP on', true, true, SMEP, 0, true],
    ['by mode, user fetches a user page, SMEP offered and off', true, true, 0, 0, false],
    ['by mode, user fetches a user page, no SMEP', true, false, 0, 0, true],
  ] as const)('%s', (_what, byMode, hasSmep, cr4, privilege, asUser) => {
    const w = new Walker('4-level').chain(P | RW | US, P | RW | US, P | RW | US, P | RW | US | A | D);
    w.input.cr4 |= cr4;
    w.input.fetchByMode = byMode;
    w.input.hasSmep = hasSmep;
    const asked: boolean[] = [];
    const { memory } = w;
    memory.leaf = (_gpa: number, _access: number, userPage: boolean): number => (asked.push(userPage), 0);
    w.walk(0n, 2, privilege);
    expect(asked).toEqual([asUser]);
  });
});
