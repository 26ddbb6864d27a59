import { Right } from '@vmplanes/engine';
import { Access, PageRight, Privilege, type RegisterName, WalkKind } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type Rig, rigOf } from '../engine/rig.ts';

const P = 1n, RW = 2n, US = 4n, XD = 1n << 63n;
const KEY = 3;
/** Linear 0 is page 5, a user page with key 3; linear 0x1000 is page 6, without execution; the tables lie in pages 1 to 4. */
const build = (registers: Partial<Record<RegisterName, bigint>> = {}, cpuModel = 'epyc-like'): { readonly rig: Rig; walk(linear: bigint, access: Access, privilege?: Privilege): readonly [WalkKind, number] } => {
  const rig = rigOf({ guests: [{ 0: [], 1: [] }], x86: { cpuModel }, checked: false });
  const { memory } = rig.machine;
  memory.addSlot({ id: 0, gpa: 0, size: 0x8000 });
  const put = (at: number, value: bigint): void => void memory.access.writeU64(memory.subjects[0]!.host, at, Number(value & 0xffff_ffffn), Number(value >> 32n));
  [[0x1000, 0x2000n | P | RW | US], [0x2000, 0x3000n | P | RW | US], [0x3000, 0x4000n | P | RW | US], [0x4000, 0x5000n | P | US | (BigInt(KEY) << 59n)], [0x4008, 0x6000n | P | RW | US | XD]].forEach(([at, value]) => put(Number(at), BigInt(value!)));
  for (const [name, value] of Object.entries({ cr0: 0x8000_0011n, cr3: 0x1000n, cr4: 0x20n, efer: 0xd00n, ...registers })) rig.set(0, 0, name as RegisterName, value);
  const context = rig.vps[0]!.plane(0);
  return {
    rig,
    walk: (linear, access, privilege = Privilege.Supervisor) => {
      const out = rig.arch.walk(context, Number(linear & 0xffff_ffffn), Number(linear >> 32n), access, privilege);
      return [out.kind, out.kind === WalkKind.Mapped ? out.gpa : out.kind === WalkKind.Fault ? out.errorCode : -1];
    },
  };
};
const { Mapped, Fault, NotCanonical } = WalkKind;

describe('a walk goes by the registers of its plane', () => {
  const rows: readonly (readonly [string, Partial<Record<RegisterName, bigint>>, bigint, Access, Privilege, readonly [WalkKind, number]])[] = [
    ['paging', {}, 0x123n, Access.Read, Privilege.Supervisor, [Mapped, 0x5123]],
    ['no paging', { cr0: 0x11n }, 0x123n, Access.Read, Privilege.Supervisor, [Mapped, 0x123]],
    ['CR0.WP clear', {}, 0n, Access.Write, Privilege.Supervisor, [Mapped, 0x5000]],
    ['CR0.WP', { cr0: 0x8001_0011n }, 0n, Access.Write, Privilege.Supervisor, [Fault, 3]],
    ['CR3 elsewhere', { cr3: 0x7000n }, 0n, Access.Read, Privilege.Supervisor, [Fault, 0]],
    ['EFER.NXE', {}, 0x1000n, Access.Fetch, Privilege.User, [Fault, 0x15]],
    ['EFER.NXE clear: the bit is reserved', { efer: 0x500n }, 0x1000n, Access.Read, Privilege.User, [Fault, 0xd]],
    ['SMAP', { cr4: 0x20_0020n }, 0n, Access.Read, Privilege.Supervisor, [Fault, 1]],
    ['SMAP with RFLAGS.AC', { cr4: 0x20_0020n, rflags: 0x4_0002n }, 0n, Access.Read, Privilege.Supervisor, [Mapped, 0x5000]],
    ['SMAP with every other flag', { cr4: 0x20_0020n, rflags: 0x3b_ffffn }, 0n, Access.Read, Privilege.Supervisor, [Fault, 1]],
    ['a key without CR4.PKE', { pkru: 0xffff_ffffn }, 0n, Access.Read, Privilege.User, [Mapped, 0x5000]],
    ['a key that denies', { cr4: 0x40_0020n, pkru: 1n << BigInt(2 * KEY) }, 0n, Access.Read, Privilege.User, [Fault, 0x25]],
    ['keys of others', { cr4: 0x40_0020n, pkru: 0xffff_ffffn ^ (3n << BigInt(2 * KEY)) }, 0n, Access.Read, Privilege.User, [Mapped, 0x5000]],
    ['an address that is not canonical', {}, 1n << 47n, Access.Read, Privilege.Supervisor, [NotCanonical, -1]],
  ];
  it.each(rows)('%s', (_, registers, linear, access, privilege, expected) => {
    expect(build(registers).walk(linear, access, privilege)).toEqual(expected);
  });
  it('CR3 has a high half', () => {
    const { rig, walk } = build({ cr3: 0x1_0000_1000n });
    expect(walk(0n, Access.Read)[0]).toBe(WalkKind.Stage2);
    rig.set(0, 0, 'cr3', 0x1000n);
    expect(walk(0n, Access.Read)).toEqual([Mapped, 0x5000]);
  });
  it('PAE paging reads its four entries with each walk', () => {
    const { rig, walk } = build({ efer: 0n, cr3: 0x7000n });
    const { memory } = rig.machine;
    memory.access.writeU64(memory.subjects[0]!.host, 0x7000, 0x3001, 0);
    memory.access.writeU64(memory.subjects[0]!.host, 0x4000, 0x5007, 0);
    expect(walk(0x10n, Access.Read)).toEqual([Mapped, 0x5010]);
    memory.access.writeU64(memory.subjects[0]!.host, 0x7000, 0, 0);
    expect(walk(0x10n, Access.Read)).toEqual([Fault, 0]);
  });
  it('the other plane has its own', () => {
    const { rig } = build();
    expect(rig.arch.walk(rig.vps[0]!.plane(1), 0x123, 0, Access.Read, Privilege.Supervisor).gpa).toBe(0x123);
  });
});

describe('a walk on behalf of somebody else', () => {
  const A = 0x20;
  it('sets flags when it is told to, and takes SMAP as it is told to', () => {
    const { rig } = build({ cr4: 0x20_0020n, rflags: 0x4_0002n });
    const { memory } = rig.machine;
    const context = rig.vps[0]!.plane(0);
    const flags = (): number => (memory.access.readU32(memory.subjects[0]!.host, 0x4000), memory.access.lo & A);
    const probe = (setFlags: boolean, smap: 'on' | 'off' | null): WalkKind => rig.arch.probe(context, 0, 0, Access.Read, Privilege.Supervisor, setFlags, smap).kind;
    expect([probe(false, null), probe(false, 'on'), probe(false, 'off'), flags()]).toEqual([Mapped, Fault, Mapped, 0]);
    rig.set(0, 0, 'rflags', 2n);
    expect([probe(false, null), probe(false, 'on'), probe(false, 'off'), flags()]).toEqual([Fault, Fault, Mapped, 0]);
    expect([probe(true, 'off'), flags()]).toEqual([Mapped, A]);
    // It leaves nothing behind for the plane's own walks.
    expect(rig.arch.walk(context, 0, 0, Access.Read, Privilege.Supervisor).kind).toBe(Fault);
  });
  it('the VMM sees through rights', () => {
    const { rig } = build({ cr4: 0x20_0020n });
    const context = rig.vps[0]!.plane(0);
    expect([rig.arch.translate(context, 0x10n), rig.arch.translate(context, 0x1010n), rig.arch.translate(context, 0x2000n)]).toEqual([
      { valid: true, gpa: 0x5010, writeable: false, usermode: true }, { valid: true, gpa: 0x6010, writeable: true, usermode: true }, { valid: false, gpa: 0, writeable: false, usermode: false },
    ]);
  });
});

describe('TLFS Mode Based Execution Control: which execute right a fetch asks for', () => {
  it.each([
    // By mode, ignoring SMEP, privilege, CR4, right of the page
    [false, false, Privilege.Supervisor, 0x20n, Right.ExecUser, Mapped], [false, false, Privilege.Supervisor, 0x20n, Right.ExecSupervisor, WalkKind.Stage2], [true, false, Privilege.Supervisor, 0x20n, Right.ExecSupervisor, Mapped],
    [true, false, Privilege.User, 0x20n, Right.ExecSupervisor, Mapped], [true, false, Privilege.User, 0x10_0020n, Right.ExecSupervisor, WalkKind.Stage2], [true, false, Privilege.User, 0x10_0020n, Right.ExecUser, Mapped], [true, true, Privilege.User, 0x20n, Right.ExecUser, Mapped],
  ])('by mode %s, ignoring SMEP %s, privilege %i, CR4 %i, right %i: %i', (byMode, ignores, privilege, cr4, right, kind) => {
    const rig = rigOf({ guests: [], options: { maxVps: 1 }, x86: { cpuModel: 'epyc-like' }, checked: false });
    rig.arch.executeRightsByMode = byMode;
    rig.arch.executeRightsIgnoreSmep = ignores;
    const { memory } = rig.machine;
    memory.addSlot({ id: 0, gpa: 0, size: 0x8000 });
    const vp = rig.machine.createVp();
    const put = (at: number, value: number): void => void memory.access.writeU64(memory.subjects[0]!.host, at, value, 0);
    put(0x1000, 0x2007);
    put(0x2000, 0x3007);
    put(0x3000, 0x4007);
    put(0x4000, 0x5007);
    for (const [name, value] of [['cr0', 0x8000_0011n], ['cr3', 0x1000n], ['cr4', cr4], ['efer', 0x500n]] as const) rig.set(0, 0, name, value);
    memory.permissions[0]!.set(5, 1, Right.Read | right);
    // A supervisor may not fetch a user page under SMEP at all; without it the page is the user's.
    expect([rig.arch.walk(vp.plane(0), 0, 0, Access.Fetch, privilege).kind, PageRight.User]).toEqual([kind, 2]);
  });
});
