import { SvsmResult as R } from '@vmplanes/abi-svsm';
import type { SnpOptions } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { At, type Code, type Request, svsmCall, SvsmRig } from './svsm-rig.ts';

const page = 4096;
/** A page as a guest fills it for a processor at VMPL2. */
const fillVmsa = (rig: SvsmRig, gpa: number, { vmpl = 2, efer = 0x1000n, features = 1n }: { readonly vmpl?: number; readonly efer?: bigint; readonly features?: bigint } = {}): void => {
  rig.write(gpa, new Uint8Array(page));
  rig.write(gpa + 0xca, Uint8Array.of(vmpl));
  rig.words(gpa + 0xd0, efer);
  rig.words(gpa + 0x3b0, features);
};
const create = { call: 2, rcx: At.b, rdx: At.c, r8: 1 } as const;
const rights = (rig: SvsmRig, gpa: number) => {
  const { perms, vmsa } = rig.rmp.entry(gpa / page);
  return { perms: [...perms], vmsa };
};

type Row = readonly [what: string, change: Partial<Request>, result: number, options?: Partial<SnpOptions>, before?: (rig: SvsmRig) => void];
const rows: readonly Row[] = [
  ['a good page', {}, 0],
  ['VMSA not page aligned', { rcx: At.b + 8 }, R.InvalidAddress],
  ['calling area not page aligned', { rdx: At.c + 8 }, R.InvalidAddress],
  ['VMSA and calling area in one page', { rdx: At.b }, R.InvalidAddress],
  ['VMSA beyond memory', { rcx: At.memory }, R.InvalidAddress],
  ['calling area beyond memory', { rdx: At.memory }, R.InvalidAddress],
  ['VMSA at the end of the address space', { rcx: 0xffff_ffff_ffff_f000n }, R.InvalidAddress],
  ['VMSA in the memory of the SVSM', { rcx: At.svsm }, R.InvalidAddress],
  ['calling area in the memory of the SVSM', { rdx: At.svsm }, R.InvalidAddress],
  ['the VMSA of the first processor', { rcx: At.vmsa }, R.InvalidAddress],
  ['the calling area of the caller as VMSA', { rcx: At.caa }, R.InvalidAddress],
  ['the calling area of the caller as calling area', { rdx: At.caa }, R.InvalidAddress],
  ['no processor with this APIC id', { r8: 2 }, R.InvalidParameter],
  ['only bits 31:0 of R8 count', { r8: 0x5_0000_0001n }, 0],
  ['an address is judged before the APIC id', { rcx: At.memory, r8: 9 }, R.InvalidAddress],
  ['VMSA page not valid', { rcx: At.fresh }, R.InvalidAddress],
  ['calling area not valid', { rdx: At.fresh }, R.InvalidAddress],
  ['VMSA page that the guest may not write', {}, R.InvalidAddress, {}, (rig) => rig.rmp.launch(At.b / page, [0, 1, 0], false)],
  ['VMPL of the VMSA is 1', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { vmpl: 1 })],
  ['VMPL of the VMSA is 0', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { vmpl: 0 })],
  ['VMPL of the VMSA is 3', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { vmpl: 3 })],
  ['EFER.SVME is clear', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { efer: 0xd01n })],
  ['SEV_FEATURES has a bit more than the caller', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { features: 0x21n })],
  ['SEV_FEATURES has a bit less', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { features: 0n })],
  ['SEV_FEATURES differs in its high half', {}, R.InvalidParameter, {}, (rig) => fillVmsa(rig, At.b, { features: 0x1_0000_0001n })],
  ['guest at VMPL3: its VMSA must be, too', {}, R.InvalidParameter, { guestVmpl: 3 }],
];

describe('CREATE_VCPU', () => {
  it.each(rows.map(([what, ...rest]) => [what, rest] as const))('%s', (_what, [change, result, options = {}, before]) => {
    const rig = new SvsmRig(options);
    fillVmsa(rig, At.b);
    before?.(rig);
    const had = rights(rig, At.b);
    expect(`0x${rig.call({ ...create, ...change }).result.toString(16)}`).toBe(`0x${result.toString(16)}`);
    const isMade = rig.provider.registry.find(At.b) !== undefined;
    expect(isMade).toBe(result === 0);
    if (result === 0) expect(rights(rig, At.b)).toEqual({ perms: [0, 1, 0], vmsa: true });
    else if (result === R.InvalidParameter && options.guestVmpl === undefined) expect(rights(rig, At.b)).toEqual({ perms: [0, 0xf, 0], vmsa: false });
    else expect(rights(rig, At.b)).toEqual(options.guestVmpl === undefined ? had : { perms: [0, 0, 0xf], vmsa: false });
  });

  it('takes the rights of the guest before it looks at the page, and gives reading back with the VMSA bit', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b);
    rig.rmp.log.length = 0;
    rig.call(create);
    expect(rig.rmp.log).toEqual(['rmpadjust 802 4K 2 0', 'rmpadjust 802 4K 3 0', 'rmpadjust 802 4K 2 1 vmsa']);
  });
  it('gives back all rights when the page is not fit', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b, { vmpl: 1 });
    rig.rmp.log.length = 0;
    rig.call(create);
    expect(rig.rmp.log.at(-1)).toBe('rmpadjust 802 4K 2 f');
  });
  it('a page of an entry of 2 MiB is split off', () => {
    const rig = new SvsmRig();
    rig.rmp.set(At.large / page, 512, { validated: true, perms: [0, 0xf, 0], large: true });
    fillVmsa(rig, At.large);
    expect(rig.call({ ...create, rcx: At.large }).result).toBe(0);
    expect(rig.rmp.log).toContain('smash c00');
  });
  it('the same pages cannot be taken twice', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b);
    fillVmsa(rig, At.d);
    expect(rig.call(create).result).toBe(0);
    expect(rig.call(create).result).toBe(R.InvalidAddress);
    expect(rig.call({ ...create, rcx: At.d }).result).toBe(R.InvalidAddress);
  });
  it('nothing starts to run, and the calling area keeps what it holds', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b);
    rig.words(At.c, 0x77n);
    rig.call(create);
    expect(rig.machine.vp(1).current).toBe(0);
    expect(rig.word(At.c)).toBe(0x77n);
  });
  it('a page that cannot be reached, unchecked, ends the provider', () => {
    const rig = new SvsmRig({ svsmDeviations: ['uncheckedPages'] });
    rig.guest(function* () {
      yield { op: 'write', gpa: At.caa, value: 1, size: 1 };
      yield { op: 'wrmsr', index: 0xc001_0130, value: 0x16 };
      yield { op: 'call', via: 'vmgexit', regs: { rax: 2, rcx: At.fresh, rdx: At.c, r8: 1 } };
    });
    expect(rig.exits).toHaveLength(1);
  });
});

/** Creates the second processor's VMSA and lets the host run it. */
const startAp = (rig: SvsmRig, code: (vp: number) => Code): void => {
  fillVmsa(rig, At.b);
  expect(rig.call(create).result).toBe(0);
  rig.start(code, 1);
  rig.snp.chapters.aps.create(rig.snp.chapters.switching.plane(rig.machine.vp(0), 2)!, 0x2_0001, 1, At.b, 1n);
  rig.run();
};

describe('a processor that was created', () => {
  it('runs from its VMSA, and its calls use its own calling area', () => {
    const rig = new SvsmRig();
    const seen: unknown[] = [];
    startAp(rig, function* () {
      seen.push(yield* svsmCall({ call: 6, rcx: 1 }, At.c));
    });
    expect(seen).toEqual([expect.objectContaining({ result: 0, pending: 0 })]);
    // VMPL0 enters it; a VMPL0 that the host wakes does so, too.
    expect(rig.switches.filter((s) => s.startsWith('1:'))).toEqual(['1: 0>2 run-vmpl', '1: 2>0 run-vmpl', '1: 0>2 run-vmpl']);
  });
  it('its own calls may remap its calling area alone', () => {
    const rig = new SvsmRig();
    startAp(rig, function* () {
      yield* svsmCall({ call: 0, rcx: At.d }, At.c);
    });
    expect(rig.provider.cpuOf(1).area).toBe(At.d);
    expect(rig.provider.cpuOf(0).area).toBe(At.caa);
  });
  it('entered first and then looked at, its first call is not served, as COCONUT does it', () => {
    const rig = new SvsmRig({ svsmDeviations: ['firstEntry'] });
    fillVmsa(rig, At.b);
    rig.call(create);
    // The host enters VMPL2 by itself.
    const vp = rig.machine.vp(1);
    const plane = rig.snp.chapters.switching.plane(vp, 2)!;
    plane.vmsa = At.b;
    vp.setSchedule(vp.plane(0), 0);
    vp.setSchedule(plane.context, 1);
    vp.plane(0).activity = 0;
    vp.plane(0).wait = null;
    vp.plane(0).completion = null;
    const seen: number[] = [];
    rig.start(function* () {
      for (let i = 0; i < 2; i++) seen.push((yield* svsmCall({ call: 6, rcx: 1 }, At.c)).pending);
    }, 1);
    rig.run();
    expect(seen).toEqual([1, 0]);
  });
});

describe('DELETE_VCPU', () => {
  const made = (options: Partial<SnpOptions> = {}): SvsmRig => {
    const rig = new SvsmRig(options);
    fillVmsa(rig, At.b);
    rig.call(create);
    return rig;
  };
  it.each([
    ['a page that was created', At.b, 0],
    ['not page aligned', At.b + 1, R.InvalidParameter],
    ['not a VMSA', At.d, R.InvalidParameter],
    ['the VMSA of the first processor', At.vmsa, R.InvalidParameter],
    ['beyond all addresses', 0xffff_ffff_ffff_f000n, R.InvalidParameter],
    ['a calling area', At.c, R.InvalidParameter],
  ] as const)('%s', (_what, rcx, result) => expect(made().call({ call: 3, rcx }).result).toBe(result));
  it('gives the page back: all rights, no VMSA bit, SVME clear', () => {
    const rig = made();
    rig.call({ call: 3, rcx: At.b });
    expect(rights(rig, At.b)).toEqual({ perms: [0, 0xf, 0], vmsa: false });
    expect(rig.word(At.b + 0xd0) & 0x1000n).toBe(0n);
  });
  it('a second time there is none', () => {
    const rig = made();
    rig.call({ call: 3, rcx: At.b });
    expect(rig.call({ call: 3, rcx: At.b }).result).toBe(R.InvalidParameter);
  });
  it('the pages can be created again', () => {
    const rig = made();
    rig.call({ call: 3, rcx: At.b });
    fillVmsa(rig, At.b);
    expect(rig.call(create).result).toBe(0);
  });
  it('the page can be rescinded again', () => {
    const rig = made();
    rig.words(At.list, 1n, BigInt(At.b));
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(R.InvalidAddress);
    rig.call({ call: 3, rcx: At.b });
    rig.words(At.list, 1n, BigInt(At.b));
    expect(rig.call({ call: 1, rcx: At.list }).result).toBe(0);
  });
  it('waits while the processor runs, until the guest has stopped it', () => {
    const rig = new SvsmRig();
    fillVmsa(rig, At.b);
    rig.call(create);
    let isSpinning = true;
    rig.start(function* () {
      while (isSpinning) yield { op: 'work', cost: 50 };
    }, 1);
    const { aps, switching } = rig.snp.chapters;
    const caller = switching.plane(rig.machine.vp(0), 2)!;
    aps.create(caller, 0x2_0001, 1, At.b, 1n);
    let out = -1;
    rig.start(function* () {
      out = (yield* svsmCall({ call: 3, rcx: At.b })).result;
    });
    rig.machine.run(20);
    expect(out).toBe(-1);
    expect(rig.provider.registry.find(At.b)).toBeDefined();
    // AP_CREATE with DESTROY.
    aps.create(caller, 0x2_0002, 1, At.b, 1n);
    rig.machine.run(20);
    expect(out).toBe(0);
    isSpinning = false;
  });
});
