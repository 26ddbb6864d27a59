import { HvRegister } from '@vmplanes/abi-hyperv';
import { Activity, type SchedulerPolicyName } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { assistOf, assistPage, type Code, contextInput, enableVtl, getRegister, hypercalls, initialContext, type Program, slow, registerInput, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const ENTRY_REASON = 8;
const RAX = 16;
const RCX = 24;
const word = (view: Uint8Array, at: number): number => new DataView(view.buffer).getUint32(at, true);
const quad = (view: Uint8Array, at: number): bigint => new DataView(view.buffer).getBigUint64(at, true);

const callOnce: Program = function* () {
  yield* vtlCall();
};
/** VTL0 brings VTL1 up and goes on with `after`; VTL1 runs `program`. */
const two = (g: Vtls, program: Program, after: Program = callOnce, handler?: Parameters<Vtls['run']>[1]): string =>
  g.run([[function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* after(); }, program]], handler);

describe.each(['highest-runnable', 'userspace'] as const satisfies readonly SchedulerPolicyName[])('VTL call and return under %s', (policy) => {
  it('advance the caller first, so that each side goes on behind its instruction', () => {
    const g = new Vtls(1, {}, policy);
    const rips: bigint[] = [];
    two(
      g,
      function* () {
        yield* hypercalls(1);
        for (let i = 0; i < 2; i++) {
          rips.push((yield { op: 'get', names: ['rip'] }).cells['rip']!);
          yield* vtlReturn();
        }
      },
      function* () {
        for (let i = 0; i < 2; i++) yield* vtlCall();
      },
    );
    expect(rips[1]! - rips[0]!).toBe(2n);
    expect(g.switches).toEqual(['0: 0>1 vtl-call', '0: 1>0 vtl-return', '0: 0>1 vtl-call', '0: 1>0 vtl-return']);
  });

  it('are #UD without a higher or lower VTL, or with reserved bits of the input', () => {
    const g = new Vtls(1, {}, policy);
    const faults: unknown[] = [];
    two(
      g,
      function* () {
        yield* hypercalls(1);
        for (const regs of [{ rcx: 0x11, rax: 0 }, { rcx: 0x12, rax: 2 }, { rcx: 0x12, rax: '0x100000000' }, { rcx: 0x1_0012, rax: 0 }, { rcx: '0x100000012', rax: 0 }]) faults.push((yield { op: 'call', regs }).fault?.vector);
        yield* vtlReturn();
      },
      function* () {
        for (const regs of [{ rcx: 0x12, rax: 0 }, { rcx: 0x11, rax: 1 }, { rcx: 0x1_0011, rax: 0 }, { rcx: 0x8000_0011, rax: 0 }]) faults.push((yield { op: 'call', regs }).fault?.vector);
        yield* vtlCall();
      },
    );
    expect(faults).toEqual(Array.from({ length: 9 }, () => 6));
  });

  it('say why a VTL was entered, and leave the lower registers for the return', () => {
    const g = new Vtls(1, {}, policy);
    const pages: Uint8Array[] = [];
    const after: bigint[] = [];
    two(
      g,
      function* () {
        yield* hypercalls(1);
        yield* assistPage(1);
        yield* synic(1, 0x40);
        yield* vtlReturn();
        pages.push(g.bytes(1, assistOf(1), 64));
        yield* vtlReturn();
        yield { op: 'sti' };
        yield { op: 'work' };
        yield* vtlReturn(false);
      },
      function* () {
        yield* vtlCall();
        yield* vtlCall();
        yield { op: 'work', regs: { rax: 0x1111, rcx: 0x2222 } };
        g.arch.apicOf(g.context(0, 1)).acceptVector(0x50, false);
        const seen = yield { op: 'get', names: ['rax', 'rcx'] };
        after.push(seen.rax, seen.rcx);
      },
      function* (_vp, vtl) {
        pages.push(g.bytes(vtl, assistOf(vtl), 64));
        yield { op: 'work', regs: { rax: 0xdead, rcx: 0xbeef } };
        yield { op: 'eoi' };
      },
    );
    expect(pages.map((p) => word(p, ENTRY_REASON))).toEqual([1, 2]);
    expect([quad(pages[1]!, RAX), quad(pages[1]!, RCX)]).toEqual([0x1111n, 0x2222n]);
    // The prefilled fields bring them back whatever VTL1 did with the registers. @spec TLFS HV_VP_VTL_CONTROL
    expect(after).toEqual([0x1111n, 0x2222n]);
  });

  it('return what VTL1 stored, unless the return is fast or there is no page', () => {
    const seen: bigint[][] = [];
    for (const [fast, page] of [[false, true], [true, true], [false, false]] as const) {
      const g = new Vtls(1, {}, policy);
      two(
        g,
        function* () {
          yield* hypercalls(1);
          if (page) {
            yield* assistPage(1);
            yield { op: 'write', gpa: assistOf(1) + RAX, value: '0x1234567887654321' };
            yield { op: 'write', gpa: assistOf(1) + RCX, value: 0x77 };
          }
          yield* vtlReturn(fast);
        },
        function* () {
          const back = yield* vtlCall();
          seen.push([back.rax, back.rcx]);
        },
      );
    }
    expect(seen).toEqual([[0x1234_5678_8765_4321n, 0x77n], [1n, 0x12n], [0n, 0x12n]]);
  });

  it('restore EAX, ECX and EDX for a 32-bit VTL', () => {
    const g = new Vtls(1, {}, policy);
    let back: readonly bigint[] = [];
    const context = initialContext({ efer: 0n, cr0: 0x11n, cr4: 0n, cs: { base: 0n, limit: 0xffff_ffff, selector: 8, attributes: 0xc09b } });
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1, context);
        const result = yield { op: 'call', regs: { rcx: 0x11, rax: 0, rdx: '0xffffffff00000005' } };
        const { cells } = yield { op: 'get', names: ['rdx'] };
        back = [result.rax, result.rcx, cells['rdx']!];
      },
      function* () {
        yield* hypercalls(1);
        yield* assistPage(1);
        yield { op: 'write', gpa: assistOf(1) + 16, size: 4, value: 0xaaaa };
        yield { op: 'write', gpa: assistOf(1) + 20, size: 4, value: 0xbbbb };
        yield { op: 'write', gpa: assistOf(1) + 24, size: 4, value: 0xcccc };
        // Control word in EDX:EAX, input in ECX. @spec TLFS Hypercall Interface, hypercall register conventions
        yield { op: 'call', regs: { rax: 0x12, rdx: 0, rcx: 0 } };
      },
    ]]);
    expect(back).toEqual([0xaaaan, 0xbbbbn, 0xccccn]);
  });

  it('re-enter at once while VTL1 has something to take, whatever its interrupt flag', () => {
    const g = new Vtls(1, {}, policy);
    const order: string[] = [];
    two(
      g,
      function* () {
        yield* hypercalls(1);
        yield* synic(1, 0x40);
        g.arch.apicOf(g.context(0, 1)).acceptVector(0x50, false);
        yield* vtlReturn();
        order.push('re-entered');
        yield { op: 'apicWrite', register: 0x08, value: 0x60 };
        yield* vtlReturn();
        order.push('after TPR');
      },
      function* () {
        yield* vtlCall();
        order.push('VTL0');
      },
    );
    expect(order).toEqual(['re-entered', 'VTL0']);
    expect(g.switches.slice(1, 4)).toEqual(['0: 1>0 vtl-return', '0: 0>1 interrupt', '0: 1>0 vtl-return']);
  });

  it('leave a halted VTL0 halted when VTL1 had its interrupt', () => {
    const g = new Vtls(1, {}, policy);
    two(
      g,
      function* () {
        yield* hypercalls(1);
        yield* synic(1, 0x40);
        yield* vtlReturn();
        yield { op: 'sti' };
        yield { op: 'work' };
        yield* vtlReturn();
      },
      function* () {
        yield* vtlCall();
        yield { op: 'hlt' };
        throw new Error('VTL0 went on');
      },
      function* () {
        yield { op: 'eoi' };
      },
    );
    g.arch.apicOf(g.context(0, 1)).acceptVector(0x50, false);
    expect(g.machine.run(100).kind).toBe('idle');
    expect([g.machine.vp(0).current, g.context(0, 0).activity]).toEqual([0, Activity.Halted]);
    expect(g.switches.slice(-2).map((s) => s.slice(0, 6))).toEqual(['0: 0>1', '0: 1>0']);
  });
});

describe('what VTLs share and own', () => {
  /** Cells with the answer of the specification's lists. @spec TLFS Virtual Secure Mode, private state, shared state */
  it.each([
    ['rax', true], ['rbx', true], ['rbp', true], ['r15', true], ['cr2', true], ['dr0', true], ['dr3', true], ['xmm0', true], ['ymmHigh3', true], ['st7', true], ['xcr0', true], ['mtrrDefType', true], ['mcgStatus', true],
    ['rsp', false], ['rip', false], ['rflags', false], ['cr0', false], ['cr3', false], ['cr4', false], ['dr6', false], ['dr7', false], ['efer', false], ['pat', false], ['star', false], ['lstar', false], ['cstar', false],
    ['sfmask', false], ['kernelGsBase', false], ['sysenterCs', false], ['sysenterEip', false], ['fs.base', false], ['gs.base', false], ['tscAux', false], ['tscOffset', false], ['cs.selector', false], ['gdtr.base', false],
    ['idtr.base', false], ['tr.selector', false], ['ldtr.selector', false], ['pkru', false], ['interruptShadow', false], ['nmi.blocked', false],
  ] as const)('%s: shared %s', (name, isShared) => {
    expect(new Vtls(1).machine.sharing.isShared(name)).toBe(isShared);
  });
});

describe('TLB locks', () => {
  it('end with the return of the VTL that holds them', () => {
    const g = new Vtls(2);
    const seen: unknown[] = [];
    const secure = function* (value: bigint, vp: number): Code<void> {
      seen.push((yield* slow(1, 0x51, registerInput(0, [HvRegister.VsmVpSecureConfigVtl0], [value], { vp }), 1)).status);
    };
    two(
      g,
      function* () {
        yield* hypercalls(1);
        yield* secure(2n, 0);
        yield* secure(1n, 0);
        yield* secure(4n, 0);
        seen.push(yield* getRegister(1, HvRegister.VsmVpSecureConfigVtl0));
        yield* secure(0n, 0);
        seen.push(yield* getRegister(1, HvRegister.VsmVpSecureConfigVtl0));
        yield* secure(2n, 0);
        yield* vtlReturn();
      },
      function* () {
        seen.push(g.hv.chapters.vsm.isTlbLocked(g.machine.vp(0), 0));
        yield* vtlCall();
        seen.push(g.hv.chapters.vsm.isTlbLocked(g.machine.vp(0), 0));
      },
    );
    expect(seen).toEqual([false, 0, 0x50, 0x50, 2n, 0, 0n, 0, false]);
  });
});

describe('a flush below a TLB lock', () => {
  it.each(['by VTL1 itself', 'by its return'] as const)('waits on the other VP until the lock ends %s', (how) => {
    const g = new Vtls(2);
    g.start(1);
    const order: string[] = [];
    const lock = function* (value: bigint): Code<number> {
      return (yield* slow(1, 0x51, registerInput(0, [HvRegister.VsmVpSecureConfigVtl0], [value], { vp: 1 }), 1)).status;
    };
    g.run([
      [
        function* () { yield* hypercalls(0); yield* enableVtl(0, 1); yield* vtlCall(); order.push('VTL0 back'); },
        function* () {
          yield* hypercalls(1);
          expect((yield* slow(1, 0x0f, contextInput(1, { vp: 1 }))).status).toBe(0);
          expect(yield* lock(2n)).toBe(0);
          for (let i = 0; i < 20; i++) yield { op: 'work', cost: 500 };
          order.push('unlocks');
          if (how === 'by VTL1 itself') expect(yield* lock(0n)).toBe(0);
          yield* vtlReturn();
        },
      ],
      [function* () {
        // Its page of calls is that of all VPs.
        yield { op: 'work', cost: 3000 };
        order.push('flush');
        const { status } = yield* slow(0, 0x02, new Uint8Array([...new Array<number>(8).fill(0), 3, ...new Array<number>(7).fill(0), ...new Array<number>(8).fill(0)]));
        order.push(`flushed ${status}`);
      }],
    ]);
    expect(order.indexOf('flush')).toBeLessThan(order.indexOf('unlocks'));
    expect(order.filter((o) => o !== 'VTL0 back')).toEqual(['flush', 'unlocks', 'flushed 0']);
  });
});

describe('return actions', () => {
  it('signal events and are cleared', () => {
    const g = new Vtls(1);
    two(
      g,
      function* () {
        yield* hypercalls(1);
        yield* assistPage(1);
        yield { op: 'wrmsr', index: 0x4000_0082, value: 0x20001 };
        yield* synic(1, 0x40);
        // Signal flag 9 of SINT0 of VTL1 on this VP. @spec openvmm vm/hv1/hvdef/src/lib.rs
        yield { op: 'write', gpa: assistOf(1) + 368, value: 1 };
        yield { op: 'write', gpa: assistOf(1) + 376, value: '0x0009000100000000' };
        yield* vtlReturn();
      },
    );
    expect(g.bytes(1, assistOf(1) + 368, 32)).toEqual(new Uint8Array(32));
    expect(g.bytes(1, 0x20001 & ~0xfff, 2)).toEqual(new Uint8Array([0, 2]));
  });
});
