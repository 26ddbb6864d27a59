import { HvRegister, HvStatus } from '@vmplanes/abi-hyperv';
import { describe, expect, it } from 'vitest';
import { type Code, contextInput, enableVtl, fast, getRegister, hypercalls, initialContext, type Program, setRegister, slow, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const SELF = 0xffff_ffff_ffff_ffffn;

describe('VTL enablement', () => {
  it('goes from the partition to the VP to the first call', () => {
    const g = new Vtls(1);
    const seen: unknown[] = [];
    g.run([[
      function* () {
        yield* hypercalls(0);
        seen.push(yield* getRegister(0, HvRegister.VsmPartitionStatus), yield* getRegister(0, HvRegister.VsmVpStatus));
        seen.push((yield* vtlCall()).fault?.vector);
        seen.push(yield* enableVtl(0, 1));
        seen.push(yield* getRegister(0, HvRegister.VsmPartitionStatus), yield* getRegister(0, HvRegister.VsmVpStatus));
        const back = yield* vtlCall();
        seen.push('back', back.rax, back.rcx);
      },
      function* () {
        yield* hypercalls(1);
        seen.push(yield* getRegister(1, HvRegister.VsmVpStatus));
        yield* vtlReturn();
      },
    ]]);
    // Enabled set and maximum; active VTL and enabled set. @spec TLFS Virtual Secure Mode, partition status, VP status
    expect(seen).toEqual([0x1_0001n, 0x1_0000n, 6, [0, 0], 0x1_0003n, 0x3_0000n, 0x3_0001n, 'back', 1n, 0x12n]);
    expect(g.switches).toEqual(['0: 0>1 vtl-call', '0: 1>0 vtl-return']);
  });

  it('of the partition is refused in the order of the table', () => {
    const g = new Vtls(1);
    const statuses: number[] = [];
    g.run([[function* () {
      yield* hypercalls(0);
      for (const [id, operand] of [[42n, 0n], [SELF, 0n], [SELF, 2n], [SELF, 0x101n], [SELF, 0x1_0001n], [SELF, 1n], [SELF, 1n], [SELF, 0n]] as const) statuses.push((yield* fast(0x0d, id, operand)).status);
    }]]);
    // Partition, VTL0, beyond the maximum, MBEC not offered, reserved; then once, and again. @spec TLFS HvCallEnablePartitionVtl
    expect(statuses).toEqual([0xd, 5, 5, 5, 5, 0, 0x51, 5]);
  });

  it('of a VP is refused in the order of the table', () => {
    const g = new Vtls(2);
    const statuses: number[] = [];
    g.run([[function* () {
      yield* hypercalls(0);
      const call = function* (vtl: number, who: { partition?: bigint; vp?: number } = {}, context = initialContext()): Code<void> {
        statuses.push((yield* slow(0, 0x0f, contextInput(vtl, who, context))).status);
      };
      yield* call(1, { partition: 42n });
      yield* call(1, { vp: 0xffff_ffff });
      yield* call(0);
      yield* call(2);
      yield* call(1);
      yield* fast(0x0d, SELF, 1n);
      yield* call(1, { vp: 1 });
      yield* call(1, {}, initialContext({ cr0: 0x6000_0010n, efer: 0n }));
      yield* call(1, {}, initialContext({ cr4: 0x8000_0020n }));
      yield* call(1, {}, initialContext({ efer: 0x502n }));
      yield* call(1, {}, initialContext({ msrCrPat: 2n }));
      yield* call(1, {}, initialContext({ rip: 0x8000_0000_0000n }));
      // SELF means the caller, before any range is looked at.
      yield* call(1, {});
      yield* call(1, {});
      yield* call(1, { vp: 1 });
    }]]);
    expect(statuses).toEqual([0xd, 0xe, 5, 5, 0x51, 6, 0x50, 0x50, 0x50, 0x50, 0x50, 0, 6, 6]);
  });

  it('installs the context and leaves the active VTL; shared registers come along at the first entry', () => {
    const g = new Vtls(1);
    let atEntry: Readonly<Record<string, bigint>> = {};
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1, initialContext({ rip: 0x7000n, rsp: 0x8000n, cr3: 0x9000n, efer: 0x100n }));
        yield { op: 'call', regs: { rcx: 0x11, rax: 0, rbx: 0x77, cr2: 0x1234 } };
      },
      function* () {
        atEntry = (yield { op: 'get', names: ['rip', 'rsp', 'cr3', 'efer', 'rbx', 'rax', 'rcx', 'cr2', 'cs.selector', 'cs.attributes', 'tr.limit', 'gdtr.base', 'idtr.limit', 'kernelGsBase', 'cpl'] }).cells;
      },
    ]]);
    // LMA follows from LME and paging. @spec TLFS HV_INITIAL_VP_CONTEXT
    expect(atEntry).toMatchObject({
      rsp: 0x8000n, cr3: 0x9000n, efer: 0x500n, rbx: 0x77n, rax: 0n, rcx: 0x11n, cr2: 0x1234n, 'cs.selector': 8n, 'cs.attributes': 0xa9bn, 'tr.limit': 0x67n, 'gdtr.base': 0x4000n, 'idtr.limit': 0xfffn, kernelGsBase: 0n, cpl: 0n,
    });
    expect(g.get(0, 1, 'rip')).toBe(0x7001n);
  });

  it('gives the VTL an APIC of its own with the id and role of the processor', () => {
    const g = new Vtls(2);
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        yield* vtlCall();
      },
      function* () {
        yield* hypercalls(1);
        expect((yield* slow(1, 0x0f, contextInput(1, { vp: 1 }))).status).toBe(0);
        expect((yield* slow(1, 0x0f, contextInput(1, { vp: 1 }))).status).toBe(HvStatus.VtlAlreadyEnabled);
      },
    ]]);
    const apics = [0, 1].map((vp) => g.arch.apicOf(g.context(vp, 1)));
    expect(apics.map((a) => [a.initialId, a.isBootProcessor, a.isSoftwareEnabled, a.isHardwareEnabled])).toEqual([[0, true, false, true], [1, false, false, true]]);
    expect(g.machine.vp(1).current).toBe(0);
  });

  it('of VTL2 may leave VTL1 out', () => {
    const g = new Vtls(1, { maximumVtl: 2 });
    const seen: unknown[] = [];
    g.run([[
      function* () {
        yield* hypercalls(0);
        seen.push(yield* enableVtl(0, 2));
        yield* vtlCall();
        seen.push(yield* getRegister(0, HvRegister.VsmPartitionStatus));
      },
      undefined,
      function* () {
        yield* hypercalls(2);
        seen.push(yield* getRegister(2, HvRegister.VsmVpStatus));
        seen.push((yield* slow(2, 0x0d, new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]))).status);
        yield* vtlReturn();
      },
    ]]);
    expect(seen).toEqual([[0, 0], 0x5_0002n, 0, 0x2_0007n]);
    expect(g.switches).toEqual(['0: 0>2 vtl-call', '0: 2>0 vtl-return']);
  });
});

describe('StartVirtualProcessor', () => {
  /** VTL0 of VP0 enables VTL1 and lets a program of VTL1 run. */
  const withVtl1 = (g: Vtls, vtl1: Program, ap: readonly Program[] = []): string =>
    g.run([[function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* vtlCall(); }, vtl1], ap]);

  it('starts a VP in its highest VTL, with VTL0 behind it', () => {
    const g = new Vtls(2);
    const ran: string[] = [];
    withVtl1(
      g,
      function* () {
        yield* hypercalls(1);
        yield* slow(1, 0x0f, contextInput(1, { vp: 1 }));
        const { status } = yield* slow(1, 0x99, contextInput(0, { vp: 1 }, initialContext({ rip: 0x4_4000n })));
        ran.push(`start ${status}`);
        ran.push(`again ${(yield* slow(1, 0x99, contextInput(0, { vp: 1 }))).status}`);
      },
      [function* () { yield { op: 'work' }; ran.push('VTL0'); }, function* () { yield { op: 'work' }; ran.push('VTL1'); yield* vtlReturn(); }],
    );
    expect(ran).toEqual(['start 0', 'again 21', 'VTL1', 'VTL0']);
    expect(g.switches).toContain('1: 0>1 start-vp');
    expect(g.get(1, 0, 'rip') >> 12n).toBe(0x44n);
  });

  it('is refused in the order of the table', () => {
    const g = new Vtls(2);
    const statuses: number[] = [];
    g.run([[
      function* () {
        yield* hypercalls(0);
        for (const [vtl, who] of [[0, { partition: 1n }], [0, {}], [0, { vp: 0 }], [0, { vp: 9 }], [1, { vp: 1 }]] as const) statuses.push((yield* slow(0, 0x99, contextInput(vtl, who))).status);
        statuses.push((yield* slow(0, 0x99, contextInput(0, { vp: 1 }, initialContext({ cr4: 0n })))).status);
        yield* enableVtl(0, 1);
        yield* vtlCall();
        statuses.push((yield* slow(0, 0x99, contextInput(0, { vp: 1 }))).status);
      },
      function* () {
        yield* hypercalls(1);
        // VTL1 is not enabled there. Then VTL0 may start nothing any more.
        statuses.push((yield* slow(1, 0x99, contextInput(1, { vp: 1 }))).status);
        statuses.push(yield* setRegister(1, HvRegister.VsmPartitionConfig, 0x5en));
        yield* vtlReturn();
      },
    ]]);
    expect(statuses).toEqual([0xd, 0xe, 0xe, 0xe, 6, 0x50, 0x15, 0, 6]);
  });

  it('is the only way to start a VP below an enabled VTL: INIT and SIPI are dropped', () => {
    for (const dropStartup of ['always', 'denied'] as const) {
      const g = new Vtls(2, { dropStartup });
      withVtl1(g, function* () {
        yield* hypercalls(1);
        yield* slow(1, 0x0f, contextInput(1, { vp: 1 }));
        yield* vtlReturn();
      });
      const waits = (): boolean => g.arch.apicOf(g.context(1, 0)).latches.isWaitingForSipi;
      g.arch.fabric.deliver(1, 0, 5, 0, true, true);
      g.arch.fabric.deliver(1, 0, 6, 8, true, false);
      expect([waits(), g.arch.apicOf(g.context(1, 0)).hasDeliverable()]).toEqual([true, dropStartup === 'denied']);
    }
  });
});

describe('partition configuration', () => {
  it('keeps protection and default mask once set, and refuses what is not defined', () => {
    const g = new Vtls(1);
    const seen: unknown[] = [];
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        seen.push(yield* setRegister(0, HvRegister.VsmPartitionConfig, 0x1fn));
        yield* vtlCall();
      },
      function* () {
        yield* hypercalls(1);
        seen.push(yield* getRegister(1, HvRegister.VsmPartitionConfig));
        for (const value of [0x80n, 0x1_0000n, 0x03n, 0x05n, 0x37n, 0x11n, 0x20n]) seen.push(yield* setRegister(1, HvRegister.VsmPartitionConfig, value));
        seen.push(yield* getRegister(1, HvRegister.VsmPartitionConfig));
      },
    ]]);
    // VTL0 has none; reset value; undefined bits; masks without write, without read; then set, and undone without effect.
    expect(seen).toEqual([5, 0x3en, 0x50, 0x50, 0x50, 0x50, 0, 0, 0, 0x37n]);
  });
});
