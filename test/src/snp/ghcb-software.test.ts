import { Outcome, PAGE_SIZE } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { BUFFER, DATA, DONE, es, ghcbOf, GhcbRig, invalid, PAGES, snp } from './ghcb-rig.ts';

// @spec GHCB 4.1; Linux arch/x86/kvm/svm/sev.c; KVM planes series 2026-06, sev.c
const wide = (value: bigint): readonly [bigint, bigint] => [0n, value];
const PRIVATE = 3 * PAGE_SIZE;

describe('NMI complete', () => {
  it('reaches the VMPL that says so', () => {
    const rig = snp();
    expect(rig.result(0x8000_0003)).toEqual(DONE);
    expect(rig.log.take()).toEqual(['nmi complete 0']);
  });
});

describe('AP reset hold', () => {
  it('waits, with the result of another wake in the page', () => {
    const rig = snp();
    expect(rig.result(0x8000_0004)).toEqual(DONE);
    expect(rig.log.take()).toEqual(['hold ghcb']);
    expect(rig.step()).toBe(Outcome.Blocked);
  });
  it('has a result that is not 0 after a start-up message', () => {
    const rig = snp();
    rig.event(0x8000_0004);
    rig.ghcb.complete(rig.plane(), { owner: 'sev-snp-vmpl', kind: 'ghcb.ap-reset-hold', data: { through: 'ghcb' }, reply: {} });
    expect(rig.reply()).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 1n });
  });
});

describe('AP jump table', () => {
  const [SET, GET] = [0, 1];
  it('is 0 until it is set', () => expect(snp().result(0x8000_0005, GET)).toEqual(wide(0n)));
  it('gives the address that was set', () => {
    const rig = snp();
    expect(rig.result(0x8000_0005, SET, 0x12_3456_7000n)).toEqual(DONE);
    expect(rig.result(0x8000_0005, GET)).toEqual(wide(0x12_3456_7000n));
  });
  it('is one for the machine', () => {
    const rig = snp({ vps: 2 });
    rig.event(0x8000_0005, SET, 0x8000);
    rig.fill({ swExitCode: 0x8000_0005, swExitInfo1: GET, swExitInfo2: 0 }, ghcbOf(1));
    rig.setMsr(BigInt(ghcbOf(1)), rig.plane(rig.machine.vp(1).context));
    rig.machine.vp(1).context.activity = 0;
    rig.step(1);
    expect(rig.reply(ghcbOf(1)).swExitInfo2).toBe(0x8000n);
  });
  it.each([2, 0xffff_ffff, 0x1_0000_0000n])('request %s is not valid: 2/5', (request) => expect(snp().result(0x8000_0005, request)).toEqual(invalid(5)));
  it('an address that is none is not valid, and changes nothing', () => {
    const rig = snp();
    rig.event(0x8000_0005, SET, 0x8000);
    expect(rig.result(0x8000_0005, SET, 2n ** 52n)).toEqual(invalid(5));
    expect(rig.result(0x8000_0005, GET)).toEqual(wide(0x8000n));
  });
  it('is there without a reverse map', () => {
    const rig = es();
    rig.event(0x8000_0005, SET, 0x9000);
    expect(rig.result(0x8000_0005, GET)).toEqual(wide(0x9000n));
  });
});

describe('guest request', () => {
  const [REQUEST, RESPONSE] = [DATA, DATA + PAGE_SIZE];
  const message = (type = 5): Uint8Array => {
    const page = new Uint8Array(PAGE_SIZE);
    page[0x34] = type;
    return page;
  };
  const sending = (type = 5): GhcbRig => {
    const rig = snp();
    rig.write(REQUEST, message(type));
    return rig;
  };
  it('carries the page and the response', () => {
    const rig = sending();
    expect(rig.result(0x8000_0011, REQUEST, RESPONSE)).toEqual(DONE);
    expect([rig.log.take(), rig.peek(RESPONSE, 1), rig.peek(RESPONSE + PAGE_SIZE - 1, 1)]).toEqual([['message 5'], 0xa5n, 0x5an]);
  });
  it('gives the error of the firmware in the low half', () => {
    const rig = sending();
    rig.log.firmwareError = 0x16;
    expect(rig.result(0x8000_0011, REQUEST, RESPONSE)).toEqual(wide(0x16n));
  });
  it.each<[string, number | bigint, number | bigint]>([
    ['a request that is not aligned', REQUEST + 8, RESPONSE],
    ['a response that is not aligned', REQUEST, RESPONSE + 1],
    ['one page for both', REQUEST, REQUEST],
  ])('%s: 2/4', (_what, info1, info2) => {
    const rig = sending();
    expect(rig.result(0x8000_0011, info1, info2)).toEqual(invalid(4));
    expect(rig.result(0x8000_0012, info1, info2, { rax: DATA + 2 * PAGE_SIZE, rbx: 1 })).toEqual(invalid(4));
    expect(rig.log.take()).toEqual([]);
  });
  it.each<[string, number | bigint, number | bigint]>([
    ['a private request', PRIVATE, RESPONSE],
    ['a private response', REQUEST, PRIVATE],
    ['a request without memory', PAGES * PAGE_SIZE, RESPONSE],
    ['a response without memory', REQUEST, PAGES * PAGE_SIZE],
    ['addresses at the end of 64 bits', 0xffff_ffff_ffff_f000n, 0xffff_ffff_ffff_e000n],
  ])('%s: 2/5, and the firmware is not asked', (_what, info1, info2) => {
    const rig = sending();
    expect(rig.result(0x8000_0011, info1, info2)).toEqual(invalid(5));
    expect(rig.log.take()).toEqual([]);
  });

  describe('extended', () => {
    const certificates = new Uint8Array(PAGE_SIZE + 1).fill(0xce);
    const TABLE = DATA + 2 * PAGE_SIZE;
    it('gives the table of certificates with a report', () => {
      const rig = sending();
      rig.log.certificates = certificates;
      expect(rig.event(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 2 })).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 0n, rbx: 2n, rax: BigInt(TABLE) });
      expect(rig.read(TABLE, certificates.length)).toEqual(certificates);
      expect(rig.log.take()).toEqual(['message 5']);
    });
    it('tells how many pages it needs, and the firmware is not asked', () => {
      const rig = sending();
      rig.log.certificates = certificates;
      expect(rig.event(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 1 })).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 1n << 32n, rbx: 2n });
      expect([rig.log.take(), rig.peek(TABLE)]).toEqual([[], 0n]);
    });
    it('the same message may be sent again', () => {
      const rig = sending();
      rig.log.certificates = certificates;
      rig.event(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 0 });
      rig.event(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 2 });
      expect(rig.log.take()).toEqual(['message 5']);
    });
    it('without certificates gives an empty table', () => {
      const rig = sending();
      rig.write(TABLE, new Uint8Array(32).fill(0xee));
      expect(rig.result(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 1 })).toEqual(DONE);
      expect([...rig.read(TABLE, 25)]).toEqual([...Array<number>(24).fill(0), 0xee]);
    });
    it('without certificates and without pages gives none', () => {
      const rig = sending();
      rig.poke(TABLE, 0xeen);
      expect(rig.result(0x8000_0012, REQUEST, RESPONSE, { rax: TABLE, rbx: 0 })).toEqual(DONE);
      expect(rig.peek(TABLE)).toBe(0xeen);
    });
    it.each([3, 17])('message %i needs no pages', (type) => {
      const rig = sending(type);
      rig.log.certificates = certificates;
      expect(rig.result(0x8000_0012, REQUEST, RESPONSE)).toEqual(DONE);
      expect([rig.log.take(), rig.peek(TABLE)]).toEqual([[`message ${type}`], 0n]);
    });
    it.each([
      ['without RAX', { rbx: 2 }],
      ['without RBX', { rax: TABLE }],
      ['with an address that is not aligned', { rax: TABLE + 8, rbx: 2 }],
      ['with a private page', { rax: PRIVATE, rbx: 2 }],
      ['with no memory', { rax: PAGES * PAGE_SIZE, rbx: 2 }],
      ['with memory for a part', { rax: (PAGES - 1) * PAGE_SIZE, rbx: 2 }],
    ] as const)('a report %s: 2/5', (_what, fields) => {
      const rig = sending();
      rig.log.certificates = certificates;
      expect(rig.result(0x8000_0012, REQUEST, RESPONSE, fields)).toEqual(invalid(5));
      expect(rig.log.take()).toEqual([]);
    });
  });
});

describe('AP creation', () => {
  it('hands request, VMPL, APIC id, save area and features on', () => {
    const rig = snp();
    expect(rig.result(0x8000_0013, 0x1_0002_0001n, 0x1_0400_2000n, { rax: 0x29 })).toEqual(DONE);
    expect(rig.log.take()).toEqual(['create by 0: 0x1 0x20001 vmsa 0x104002000 features 0x29']);
  });
  it('destroys without features', () => {
    const rig = snp();
    rig.result(0x8000_0013, 0x1_0002_0002n, 0x1_0400_2000n);
    expect(rig.log.take()).toEqual(['create by 0: 0x1 0x20002 vmsa 0x104002000 features none']);
  });
  it('features have 64 bits', () => {
    const rig = snp();
    rig.result(0x8000_0013, 1, 0x5000, { rax: 0x8000_0001_0000_0001n });
    expect(rig.log.take()).toEqual(['create by 0: 0x0 0x1 vmsa 0x5000 features 0x8000000100000001']);
  });
  it.each([4, 5])('that is refused for reason %i says so', (reason) => {
    const rig = snp();
    rig.log.create = () => reason;
    expect(rig.result(0x8000_0013, 1, 0x5000, { rax: 1 })).toEqual(invalid(reason));
  });
  it('leaves to the VMM where the processor is to be made, and is looked at again', () => {
    const rig = snp();
    const results = [-1, 0];
    rig.log.create = () => results.shift()!;
    expect(rig.event(0x8000_0013, 1, 0x5000, { rax: 1 })).toEqual({});
    expect(rig.exit()).toEqual({ kind: 'createPlane' });
    rig.answer({});
    expect(rig.log.take()).toEqual(Array(2).fill('create by 0: 0x0 0x1 vmsa 0x5000 features 0x1'));
    expect(rig.reply()).toMatchObject({ swExitInfo1: 0n, swExitInfo2: 0n, rax: 1n });
  });
  it('is not valid when the VMM does not make it: 2/5', () => {
    const rig = snp();
    rig.log.create = () => -1;
    rig.event(0x8000_0013, 1, 0x5000, { rax: 1 });
    rig.answer({});
    expect([rig.reply().swExitInfo1, rig.reply().swExitInfo2]).toEqual(invalid(5));
  });
});

describe('#HV doorbell page', () => {
  it.each([[0, 0], [1, 0x3_2000], [2, 0], [3, 0]])('request %i reaches injection', (request, gpa) => {
    const rig = snp();
    expect(rig.result(0x8000_0014, request, gpa)).toEqual(DONE);
    expect(rig.log.take()).toEqual([`doorbell 0 ${request} 0x${gpa.toString(16)}`]);
  });
  it('gives the address of the page', () => {
    const rig = snp();
    rig.log.doorbell = () => 0x12_3456_7000;
    expect(rig.result(0x8000_0014, 2)).toEqual(wide(0x12_3456_7000n));
  });
  it('no preference is all ones', () => {
    const rig = snp();
    rig.log.doorbell = () => Number.POSITIVE_INFINITY;
    expect(rig.result(0x8000_0014, 0)).toEqual(wide(0xffff_ffff_ffff_ffffn));
  });
  it('that is refused is 2/5', () => {
    const rig = snp();
    rig.log.doorbell = () => -5;
    expect(rig.result(0x8000_0014, 1, 0x123)).toEqual(invalid(5));
  });
  it('a request of more than 32 bits is an unknown one', () => {
    const rig = snp();
    rig.event(0x8000_0014, 0x1_0000_0001n, 0x3_2000);
    expect(rig.log.take()).toEqual(['doorbell 0 -1 0x32000']);
  });
});

describe('#HV IPI', () => {
  it('hands the interrupt command on', () => {
    const rig = snp();
    expect(rig.result(0x8000_0015, 0x0000_0003_0000_40f2n)).toEqual(DONE);
    expect(rig.log.take()).toEqual(['ipi 0x3 0x40f2']);
  });
  it('that is malformed is 2/5', () => {
    const rig = snp();
    rig.log.ipi = false;
    expect(rig.result(0x8000_0015, 0xffff_ffff_ffff_ffffn)).toEqual(invalid(5));
  });
});

describe('APIC ids', () => {
  it('are a count and the ids', () => {
    const rig = snp({ vps: 3 });
    expect(rig.event(0x8000_0017, DATA, 0, { rax: 1 })).toMatchObject({ rax: 1n, swExitInfo1: 0n, swExitInfo2: 0n });
    expect([0, 4, 8, 12].map((at) => rig.peek(DATA + at, 4))).toEqual([3n, 0n, 1n, 2n]);
  });
  it('with too few pages tell how many are needed, and nothing is written', () => {
    const rig = snp();
    rig.poke(DATA, 0xeen);
    expect(rig.event(0x8000_0017, DATA, 0, { rax: 0 })).toMatchObject({ rax: 1n, swExitInfo1: 0n, swExitInfo2: 0n });
    expect(rig.peek(DATA)).toBe(0xeen);
  });
  it('with more pages than are needed tell how many are used', () => expect(snp().event(0x8000_0017, DATA, 0, { rax: 5 })).toMatchObject({ rax: 1n }));
  it.each([['a private page', PRIVATE], ['no memory', PAGES * PAGE_SIZE], ['a page that is not aligned', DATA + 4]])('%s: 2/5', (_what, gpa) => expect(snp().result(0x8000_0017, gpa, 0, { rax: 1 })).toEqual(invalid(5)));
});

describe('run VMPL by page', () => {
  it('switches, with success in the page before', () => {
    const rig = snp();
    expect(rig.result(0x8000_0018, 1)).toEqual(DONE);
    expect([rig.log.take(), rig.machine.vp(0).current]).toEqual([['run 0>1'], 1]);
  });
  it('of the caller itself succeeds without a switch', () => {
    const rig = snp();
    expect(rig.result(0x8000_0018, 0)).toEqual(DONE);
    expect(rig.log.take()).toEqual([]);
  });
  it.each([2, 4, 0xff, 0xffff_ffff])('of VMPL %i, which is not there: 2/5', (vmpl) => {
    const rig = snp();
    expect(rig.result(0x8000_0018, vmpl)).toEqual(invalid(5));
    expect(rig.machine.vp(0).current).toBe(0);
  });
  it('of one that cannot run: 2/5, and the caller goes on', () => {
    const rig = snp();
    rig.log.canRun = false;
    expect(rig.result(0x8000_0018, 1)).toEqual(invalid(5));
    expect(rig.machine.vp(0).current).toBe(0);
  });
  it('information 1 is 32 bits wide', () => {
    const rig = snp();
    expect(rig.result(0x8000_0018, 0x5_0000_0001n)).toEqual(DONE);
    expect(rig.log.take()).toEqual(['run 0>1']);
  });
});

describe('hypervisor features', () => {
  it.each<[string, () => GhcbRig, bigint]>([
    ['two VMPLs', snp, 0x37n],
    ['one VMPL', () => snp({ planes: 1 }), 0x17n],
    ['no restricted injection', () => snp({ options: { allowed: [] } }), 0x33n],
    ['no reverse map', es, 0n],
  ])('with %s', (_what, make, features) => expect(make().result(0x8000_fffd)).toEqual(wide(features)));
  it('are the same by MSR', () => expect(snp().msr(0x80n) >> 12n).toBe(0x37n));
});

describe('termination by page', () => {
  it.each([[0x00n, 0, 0, 'general request to terminate'], [0x31n, 1, 3, 'not at VMPL0 (Linux)'], [0x20n, 0, 2, 'SNP features not supported'], [0xffffn, 15, 255, 'no reason known']] as const)('%o ends the guest by name', (info1, reasonSet, reasonCode, text) => {
    const rig = snp();
    rig.event(0x8000_fffe, info1);
    expect(rig.exit()).toEqual({
      kind: 'sevTermination', vp: 0, vmpl: 0, msrLo: ghcbOf(), msrHi: 0, reasonSet, reasonCode, dataLo: 0, dataHi: 0,
      text: `VMPL0 of VP 0 asks to be terminated: set ${reasonSet} code ${reasonCode}, ${text}; GHCB MSR 0x${ghcbOf().toString(16).padStart(16, '0')}`,
    });
    expect(rig.step()).toBe(Outcome.Blocked);
  });
  it('tells the data of the guest', () => {
    const rig = snp();
    rig.event(0x8000_fffe, 0x20, 0x1_0000_2000n);
    expect(rig.exit()).toMatchObject({ dataLo: 0x2000, dataHi: 1, text: expect.stringContaining('SNP features not supported, data 0x0000000100002000;') as string });
  });
  it('from a lower VMPL says so', () => {
    const rig = snp();
    rig.msr((1n << 32n) | 0x016n);
    rig.ask({ swExitCode: 0x8000_fffe, swExitInfo1: 0, swExitInfo2: 0 }, ghcbOf(0, 1));
    expect(rig.exit()).toMatchObject({ vmpl: 1, text: expect.stringContaining('VMPL1 of VP 0 asks') as string });
  });
});

it('the shared buffer of the rig is that of the first page', () => expect(BUFFER).toBe(ghcbOf() + 0x800));
