import { Ghcb, GHCB_MSR_ROWS, NAE_ROWS } from '@vmplanes/abi-sev-snp';
import { eventBindings, msrBindings } from '@vmplanes/personality-sev-snp-vmpl';
import { describe, expect, it } from 'vitest';
import { DONE, es, ghcbOf, type GhcbRig, invalid, PAGES, type Request, SHARED, snp, v1 } from './ghcb-rig.ts';

// @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c (sev_handle_vmgexit, sev_es_validate_vmgexit)
const at = Ghcb.at;
const FEATURES = { swExitCode: 0x8000_fffd, swExitInfo1: 0, swExitInfo2: 0 } as const;
const VALID = { result: ['swExitInfo1', 'swExitInfo2'], all: ['rax', 'rcx', 'rdx', 'rbx', 'swExitInfo1', 'swExitInfo2'] } as const;

/** Everything of the page but what a result writes. */
const untouched = (rig: GhcbRig, page = ghcbOf()): Uint8Array => {
  const bytes = rig.read(page, 4096);
  for (const [from, length] of [[at.rax, 8], [at.rcx, 24], [at.swExitInfo1, 16], [at.validBitmap, 16]] as const) bytes.fill(0, from, from + length);
  return bytes;
};

describe('bindings', () => {
  it('each event has one, in the order of the table', () => expect(eventBindings.map((b) => b.row)).toEqual(NAE_ROWS));
  it('each code of the MSR protocol has one', () => expect(msrBindings.map((b) => b.row)).toEqual(GHCB_MSR_ROWS));
  it('an event without behaviour is one that the table refuses', () => expect(eventBindings.filter((b) => b.run === null).map((b) => b.row.code)).toEqual(NAE_ROWS.filter((r) => r.refused !== null).map((r) => r.code)));
  it('a request without a reply is not served', () => expect(msrBindings.filter((b) => b.run !== null).map((b) => b.row.code)).toEqual([0x002, 0x004, 0x006, 0x010, 0x012, 0x014, 0x016, 0x080, 0x100]));
});

describe('the page', () => {
  it.each<[string, bigint]>([
    ['private', 3n * 4096n],
    ['without memory', BigInt(PAGES) * 4096n],
    ['beyond all memory', 2n ** 52n],
    ['at the end of 64 bits', 0xffff_ffff_ffff_f000n],
  ])('that is %s: the guest goes on with nothing changed', (_what, gpa) => {
    const rig = snp();
    rig.plane().registeredGhcb = Number(gpa);
    expect(rig.msr(gpa)).toBe(gpa);
    expect([rig.rip(), rig.exit()]).toEqual([4n, null]);
  });
  it('may be private without a reverse map: the shared side of it is read', () => {
    const rig = es();
    rig.machine.memory.setPrivate(SHARED, 1, true);
    expect(rig.ask(FEATURES)).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 0n });
  });
  it('that is read only cannot be used', () => {
    const rig = snp();
    rig.machine.memory.addSlot({ id: 1, gpa: 0x100_0000, size: 4096, readonly: true });
    rig.plane().registeredGhcb = 0x100_0000;
    expect(rig.msr(0x100_0000n)).toBe(0x100_0000n);
    expect(rig.rip()).toBe(4n);
  });
  it('must be the registered one: 2/1, with the bitmap cleared', () => {
    const rig = snp();
    rig.plane().registeredGhcb = 50 * 4096;
    expect(rig.ask(FEATURES)).toEqual({ swExitInfo1: 2n, swExitInfo2: 1n });
  });
  it('must be the registered one even where none is', () => {
    const rig = snp();
    rig.plane().registeredGhcb = -1;
    expect(rig.ask(FEATURES)).toEqual({ swExitInfo1: 2n, swExitInfo2: 1n });
  });
  it('need not be registered without a reverse map', () => expect(es().ask(FEATURES)).toMatchObject({ swExitInfo1: 0n }));
  it('may be any registered page', () => {
    const rig = snp();
    rig.plane().registeredGhcb = 50 * 4096;
    expect(rig.ask(FEATURES, 50 * 4096)).toMatchObject({ swExitInfo1: 0n });
  });
});

describe('order of checks', () => {
  const broken = (rig: GhcbRig, registered: boolean, usage: number, request: Request): readonly (bigint | undefined)[] => {
    if (!registered) rig.plane().registeredGhcb = 50 * 4096;
    rig.poke(ghcbOf() + at.ghcbUsage, BigInt(usage), 4);
    const { swExitInfo1, swExitInfo2 } = rig.ask(request);
    return [swExitInfo1, swExitInfo2];
  };
  it('registration comes before usage', () => expect(broken(snp(), false, 1, {})).toEqual(invalid(1)));
  it('usage comes before missing fields', () => expect(broken(snp(), true, 1, {})).toEqual(invalid(2)));
  it('fields of all events come before the event', () => expect(broken(snp(), true, 0, { swExitCode: 0x9999 })).toEqual(invalid(4)));
  it('the event comes before its fields', () => expect(broken(snp(), true, 0, { swExitCode: 0x9999, swExitInfo1: 0, swExitInfo2: 0 })).toEqual(invalid(6)));
  it('fields of the event come before its operands', () => expect(broken(snp(), true, 0, { swExitCode: 0x8000_0001, swExitInfo1: 0, swExitInfo2: 99 })).toEqual(invalid(4)));
});

describe('usage', () => {
  it.each([1, 2, 3, 0xffff_ffff])('%i is not served: 2/2', (usage) => {
    const rig = snp();
    rig.poke(ghcbOf() + at.ghcbUsage, BigInt(usage), 4);
    expect(rig.ask(FEATURES)).toEqual({ swExitInfo1: 2n, swExitInfo2: 2n });
  });
  it.each([0, 1, 2, 3, 0xffff])('the protocol version %i in the page does not count', (version) => {
    const rig = snp();
    rig.poke(ghcbOf() + at.protocolVersion, BigInt(version), 2);
    expect(rig.ask(FEATURES)).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 0x37n });
  });
});

describe('fields of every event', () => {
  it.each<[string, Request]>([
    ['exit code', { swExitInfo1: 0, swExitInfo2: 0 }],
    ['information 1', { swExitCode: 0x76, swExitInfo2: 0 }],
    ['information 2', { swExitCode: 0x76, swExitInfo1: 0 }],
    ['anything', {}],
  ])('without %s: 2/4, and the results alone are valid', (_what, request) => expect(snp().ask(request)).toEqual({ swExitInfo1: 2n, swExitInfo2: 4n }));
});

describe('fields that one event needs', () => {
  /** Event, information 1, fields that are all it needs, the one left out. */
  const cases: readonly (readonly [code: number, info1: number, fields: Request, without: keyof Request])[] = [
    [0x37, 0, { rax: 0x400 }, 'rax'],
    [0x6f, 0, { rcx: 0 }, 'rcx'],
    [0x72, 0, { rax: 0, rcx: 0 }, 'rax'],
    [0x72, 0, { rax: 0, rcx: 0 }, 'rcx'],
    [0x72, 0, { rax: 0xd, rcx: 0, xcr0: 1 }, 'xcr0'],
    [0x7b, 0x03f8_0010, { rax: 0 }, 'rax'],
    [0x7b, 0x03f8_0014, { swScratch: ghcbOf() + 0x800 }, 'swScratch'],
    [0x7b, 0x03f8_0015, { swScratch: ghcbOf() + 0x800 }, 'swScratch'],
    [0x7c, 0, { rcx: 0x277 }, 'rcx'],
    [0x7c, 1, { rcx: 0x277, rax: 0, rdx: 0 }, 'rcx'],
    [0x7c, 1, { rcx: 0x277, rax: 0, rdx: 0 }, 'rax'],
    [0x7c, 1, { rcx: 0x277, rax: 0, rdx: 0 }, 'rdx'],
    [0x81, 0, { rax: 0, cpl: 0 }, 'rax'],
    [0x81, 0, { rax: 0, cpl: 0 }, 'cpl'],
    [0x8a, 0, { rax: 0, rcx: 0, rdx: 0 }, 'rax'],
    [0x8a, 0, { rax: 0, rcx: 0, rdx: 0 }, 'rcx'],
    [0x8a, 0, { rax: 0, rcx: 0, rdx: 0 }, 'rdx'],
    [0x8b, 0, { rax: 0, rcx: 0 }, 'rax'],
    [0x8b, 0, { rax: 0, rcx: 0 }, 'rcx'],
    [0x8000_0001, 0, { swScratch: ghcbOf() + 0x800 }, 'swScratch'],
    [0x8000_0002, 0, { swScratch: ghcbOf() + 0x800 }, 'swScratch'],
    [0x8000_0010, 0, { swScratch: ghcbOf() + 0x800 }, 'swScratch'],
    [0x8000_0013, 1, { rax: 1 }, 'rax'],
    [0x8000_0013, 0, { rax: 1 }, 'rax'],
    [0x8000_0017, 0, { rax: 0 }, 'rax'],
  ];
  it.each(cases)('event %i with information %i needs %o, and is 2/4 without %s', (code, info1, fields, without) => {
    const { [without]: _left, ...rest } = fields;
    expect(snp().result(code, info1, 0, rest)).toEqual(invalid(4));
    expect(snp().result(code, info1, 0, fields)).not.toEqual(invalid(4));
  });
  it('XCR0 is needed for leaf 0xD compared in full alone', () => {
    expect(snp().result(0x72, 0, 0, { rax: 0x1_0000_000dn, rcx: 0 })).toEqual(DONE);
    expect(snp().result(0x72, 0, 0, { rax: 0xc, rcx: 0 })).toEqual(DONE);
  });
  it('destroying an AP needs no features', () => expect(snp().result(0x8000_0013, 2, 0)).toEqual(DONE));
  it('a request that does not exist is not one to destroy', () => expect(snp().result(0x8000_0013, 3, 0)).toEqual(invalid(4)));
  it('the request of AP creation is 16 bits wide', () => expect(snp().result(0x8000_0013, 0x1_0002, 0)).toEqual(DONE));
  it('IN needs no RAX', () => {
    const rig = snp();
    rig.event(0x7b, 0x03f8_0011);
    expect(rig.exit()).toMatchObject({ kind: 'io', write: false });
  });
});

describe('events that are not there', () => {
  const unnamed = [0x00, 0x28, 0x40, 0x60, 0x78, 0xff, 0x100, 0x400, 0x404, 0x7fff_ffff, 0x8000_0000, 0x8000_0006, 0x8000_000f, 0x8000_0019, 0x8000_001e, 0x8000_0022, 0x8000_fffc, 0x8001_0000, 0xf000_0000, 0xffff_ffff];
  it.each(unnamed)('%i is not named: 2/6', (code) => expect(snp().ask({ swExitCode: code, swExitInfo1: 0, swExitInfo2: 0 })).toEqual({ swExitInfo1: 2n, swExitInfo2: 6n }));
  it.each(NAE_ROWS.filter((r) => r.refused !== null).map((r) => [r.code, r.name] as const))('%i (%s) is refused: 2/6', (code) => expect(snp().result(code, 0, 0, { rax: 0, rbx: 0, rcx: 0 })).toEqual(invalid(6)));
  it('codes have 64 bits', () => expect(snp().result(0x1_0000_0072n, 0, 0, { rax: 0, rcx: 0 })).toEqual(invalid(6)));
  it.each([0x8000_0014, 0x8000_0015])('%i is not there without restricted injection: 2/6', (code) => {
    const rig = snp({ options: { allowed: [] } });
    expect(rig.result(code, 2)).toEqual(invalid(6));
    expect(rig.log.take()).toEqual([]);
  });
  it.each([0x8000_0010, 0x8000_0011, 0x8000_0012, 0x8000_0013, 0x8000_0014, 0x8000_0015, 0x8000_0017, 0x8000_0018])('%i needs a reverse map: 2/4 without one', (code) => {
    const rig = es();
    expect(rig.result(code, 0x3_0000, 0x3_1000, { rax: 1, rbx: 1, swScratch: ghcbOf() + 0x800 })).toEqual(invalid(4));
    expect(rig.log.take()).toEqual([]);
  });
});

describe('what the guest sees of a result', () => {
  it('an event that was served: RAX, RBX, RCX, RDX and the results are valid', () => expect(Object.keys(snp().event(0x76)).sort()).toEqual([...VALID.all].sort()));
  it('a request that is not valid: the results alone', () => expect(Object.keys(snp().event(0x9999)).sort()).toEqual([...VALID.result].sort()));
  it('registers that the event did not change are those of the request, or 0 where it had none', () => expect(snp().event(0x76, 0, 0, { rax: 0x1234n, rdx: 0x5678n })).toMatchObject({ rax: 0x1234n, rbx: 0n, rcx: 0n, rdx: 0x5678n }));
  it('values without a valid bit are not looked at', () => {
    const rig = snp();
    rig.poke(ghcbOf() + at.rbx, 0x9999n);
    expect(rig.event(0x76)).toMatchObject({ rbx: 0n });
  });
  it('a request that is not valid touches no register', () => {
    const rig = snp();
    rig.event(0x9999, 0, 0, { rax: 0x1234n, rcx: 0x77n });
    expect([rig.peek(ghcbOf() + at.rax), rig.peek(ghcbOf() + at.rcx)]).toEqual([0x1234n, 0x77n]);
  });
  it.each([['served', 0x76], ['not valid', 0x9999]] as const)('nothing else of the page changes when the event is %s', (_what, code) => {
    const rig = snp();
    rig.write(ghcbOf(), Uint8Array.from({ length: 0xff8 }, (_, i) => i * 7));
    rig.fill({ swExitCode: code, swExitInfo1: 0, swExitInfo2: 0 });
    const before = untouched(rig);
    rig.setMsr(BigInt(ghcbOf()));
    rig.step();
    expect(untouched(rig)).toEqual(before);
  });
  it('the guest goes on behind the instruction, and keeps its registers', () => {
    const rig = snp();
    rig.set('rax', 0xaaaan);
    rig.set('rcx', 0xccccn);
    rig.event(0x7c, 0, 0, { rcx: 0x277 });
    expect([rig.rip(), rig.get('rax'), rig.get('rcx')]).toEqual([4n, 0xaaaan, 0xccccn]);
  });
  it('the GHCB MSR stays', () => {
    const rig = snp();
    rig.event(0x76);
    expect(rig.getMsr()).toBe(BigInt(ghcbOf()));
  });
  it('each VMPL has its own page', () => {
    const rig = snp();
    rig.msr((1n << 32n) | 0x016n);
    expect(rig.ask(FEATURES, ghcbOf(0, 1))).toMatchObject({ swExitInfo2: 0x37n });
    expect(rig.reply(ghcbOf())).toEqual({});
  });
});

describe('the first version of the protocol', () => {
  it('serves the same events', () => expect(v1().result(0x8000_fffd)).toEqual(DONE));
});
