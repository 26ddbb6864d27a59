import { HvMessageType, HvRegister, HvTypedMessage, HvX64MemoryInterceptMessage } from '@vmplanes/abi-hyperv';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { assistOf, assistPage, type Code, enableVtl, getRegister, hypercalls, Page, type Program, protectInput, setRegister, simpOf, slow, synic, vtlCall, vtlReturn, Vtls } from './vsm-fixture.ts';

const PAGE = Page.Data >>> 12;
const VECTOR = 0x40;
const PROTECT_ALL = 0x1fn;

/** VTL1 with SINT0, protection on; `arm` sets up what it wants, `onIntercept` runs in its handler and frees the slot. VTL0 then does `act`. */
const scene = (g: Vtls, arm: () => Code<void>, act: Program, onIntercept: (times: number) => Code<void> = function* () {}): Uint8Array[] => {
  const messages: Uint8Array[] = [];
  g.run(
    [[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        yield* vtlCall();
        yield* act();
      },
      function* () {
        yield* hypercalls(1);
        yield* synic(1, VECTOR);
        yield* setRegister(1, HvRegister.VsmPartitionConfig, PROTECT_ALL);
        yield* arm();
        yield { op: 'sti' };
        for (;;) yield* vtlReturn(false);
      },
    ]],
    function* (_vp, vtl, vector) {
      if (vtl !== 1 || vector !== VECTOR) return;
      messages.push(g.bytes(1, simpOf(1), 256));
      yield* onIntercept(messages.length);
      yield { op: 'write', gpa: simpOf(1), size: 4, value: 0 };
      yield { op: 'wrmsr', index: 0x4000_0084, value: 0 };
      yield { op: 'eoi' };
    },
  );
  return messages;
};
const read = (bytes: Uint8Array): ReturnType<typeof HvTypedMessage.read> => HvTypedMessage.read(new DataView(bytes.buffer), 0);
const protect = function* (flags: number, page = PAGE): Code<number> {
  return (yield* slow(1, 0x0c, protectInput(flags, 0, [page]), 1)).status;
};
const lift = function* (): Code<void> {
  yield* protect(0xf);
};

describe('memory intercepts', () => {
  it.each([
    ['read', 0, 0, { op: 'read', gpa: Page.Data + 8 }, 1],
    ['write', 1, 1, { op: 'write', gpa: Page.Data + 8, value: 5 }, 1],
    ['execute', 3, 2, { op: 'execute', gpa: Page.Data + 8 }, 0],
  ] as const satisfies readonly (readonly [string, number, number, Step, number])[])('tell of a %s, byte for byte, and the access is made again', (_what, flags, accessType, step, length) => {
    const g = new Vtls(1);
    let done = false;
    const [bytes, ...more] = scene(
      g,
      function* () {
        yield* protect(flags);
      },
      function* () {
        yield { op: 'work', regs: { rax: 0xa1, rcx: 0xc1, r15: 0xf15, rsp: 0x5555 } };
        yield step;
        done = true;
      },
      lift,
    );
    expect([more.length, done]).toEqual([0, true]);
    const message = read(bytes!);
    expect(message.header).toMatchObject({ type: HvMessageType.GpaIntercept, payloadSize: 0xf0, flags: { messagePending: false }, origin: 0n });
    const payload = HvX64MemoryInterceptMessage.read(new DataView(bytes!.buffer), 16);
    const segment = { base: 0n, limit: 0xffff, selector: 0, attributes: 0x93 };
    expect(payload).toMatchObject({
      header: {
        vpIndex: 0, instructionLengthAndCr8: { instructionLength: length, cr8: 0 }, accessType,
        executionState: { cpl: 0, cr0Pe: true, cr0Am: false, eferLma: true, debugActive: false, interruptionPending: false, vtl: 0, interruptShadow: false },
        cs: { attributes: 0xa09b, selector: 0xf000 }, rflags: 0x1_0002n,
      },
      cacheType: 6, instructionByteCount: length, memoryAccessInfo: { gvaValid: false, gvaGpaValid: false, tlbLocked: false }, tprPriority: 0, guestVirtualAddress: 0n, guestPhysicalAddress: BigInt(Page.Data + 8),
      ds: segment, ss: segment, rax: 0xa1n, rcx: 0xc1n, rsp: 0x5555n, r15: 0xf15n,
    });
    // RIP is that of the refused instruction: one instruction later it is done.
    expect(g.get(0, 0, 'rip') - payload.header.rip).toBe(1n);
  });

  it('lets VTL1 stand in for the instruction: registers set, RIP moved', () => {
    const g = new Vtls(1);
    let value = 0n;
    const messages = scene(
      g,
      function* () {
        yield* assistPage(1);
        yield* protect(0);
      },
      function* () {
        value = (yield { op: 'read', gpa: Page.Data }).rax;
      },
      function* () {
        const rip = yield* getRegister(1, HvRegister.Rip, 0x10);
        yield* setRegister(1, HvRegister.Rip, rip + 1n, 0x10);
        // RAX is shared: what VTL0 gets is what the return gives it.
        yield { op: 'write', gpa: assistOf(1) + 16, value: 0x1234 };
      },
    );
    expect([messages.length, value]).toEqual([1, 0x1234n]);
  });

  it('is a fault for VTL0 where nobody can be told', () => {
    for (const off of [{ op: 'wrmsr', index: 0x4000_0080, value: 0 }, { op: 'wrmsr', index: 0x4000_0090, value: 0x1_0040 }] as const satisfies readonly Step[]) {
      const g = new Vtls(1);
      let vector: number | undefined;
      scene(g, function* () { yield* protect(0); yield off; }, function* () { vector = (yield { op: 'read', gpa: Page.Data }).fault?.vector; });
      expect(vector).toBe(13);
    }
  });

  it('waits while the slot is in use, once, and goes on when it is free', () => {
    const g = new Vtls(1);
    let done = false;
    const messages = scene(
      g,
      function* () {
        yield* protect(0);
        // The slot holds something of before.
        yield { op: 'write', gpa: simpOf(1), size: 4, value: 0x10 };
      },
      function* () {
        yield { op: 'read', gpa: Page.Data };
        done = true;
      },
      lift,
    );
    expect([messages.length, done, g.hv.chapters.intercepts.isWaiting(g.context(0, 0))]).toEqual([0, false, true]);
    expect(g.bytes(1, simpOf(1) + 5, 1)[0]).toBe(1);
    // VTL1 frees the slot, by an interrupt of its own.
    g.machine.memory.access.writeU32(g.machine.memory.subjects[1]!.host, simpOf(1), 0);
    g.hv.chapters.synic.retry(g.context(0, 1));
    expect(g.machine.run(100).kind).toBe('idle');
    expect([messages.length, done]).toEqual([1, true]);
  });

  it('comes through the assist page when VTL1 asked for that', () => {
    const g = new Vtls(1);
    const reasons: number[] = [];
    let type = 0;
    g.run([[
      function* () {
        yield* hypercalls(0);
        yield* enableVtl(0, 1);
        yield* vtlCall();
        yield { op: 'read', gpa: Page.Data };
      },
      function* () {
        yield* hypercalls(1);
        yield* assistPage(1);
        yield* setRegister(1, HvRegister.VsmPartitionConfig, PROTECT_ALL | 0x1000n);
        yield* protect(0);
        yield* vtlReturn();
        reasons.push(new DataView(g.bytes(1, assistOf(1) + 8, 4).buffer).getUint32(0, true));
        type = new DataView(g.bytes(1, assistOf(1) + 112, 4).buffer).getUint32(0, true);
        yield* protect(0xf);
        yield* vtlReturn();
      },
    ]]);
    expect([reasons, type]).toEqual([[3], HvMessageType.GpaIntercept]);
    expect(g.switches).toContain('0: 0>1 intercept');
  });

  it('of a refused write to an overlay is #GP', () => {
    const g = new Vtls(1);
    let vector: number | undefined;
    g.run([[function* () { yield* hypercalls(0); vector = (yield { op: 'write', gpa: Page.Hypercall, value: 1 }).fault?.vector; }]]);
    expect(vector).toBe(13);
  });

  it('of the parameters of a call come before the call', () => {
    const g = new Vtls(1);
    let status = -1;
    const messages = scene(
      g,
      function* () {
        yield* protect(0, 0x10);
      },
      function* () {
        const result = yield { op: 'call', regs: { rcx: '0x100000050', rdx: Page.Input, r8: Page.Output } };
        status = Number(result.rax & 0xffffn);
      },
      function* () {
        yield* slow(1, 0x0c, protectInput(0xf, 0, [0x10]), 1);
      },
    );
    // VTL1's own input lies in the page, too, but nobody protects it from VTL1. The call, made again, finds a name that is none.
    expect([messages.length, status]).toEqual([1, 5]);
  });
});

describe('intercepts of control registers and MSRs', () => {
  const arm = (control: bigint, name: 'CrInterceptCr0Mask' | 'CrInterceptCr4Mask' | 'CrInterceptIa32MiscEnableMask' | null, mask = 0n) =>
    function* (): Code<void> {
      yield* setRegister(1, HvRegister.CrInterceptControl, control);
      if (name !== null) yield* setRegister(1, HvRegister[name], mask);
    };
  /** VTL1 makes the instruction done. */
  const skip = function* (): Code<void> {
    yield* setRegister(1, HvRegister.Rip, (yield* getRegister(1, HvRegister.Rip, 0x10)) + 1n, 0x10);
  };
  const TS = 8n;

  // (old XOR new) AND mask, under the control bit; a mask of 0 intercepts nothing. @spec TLFS HV_REGISTER_CR_INTERCEPT_CONTROL
  it.each([
    ['CR0 with the changed bit in the mask', 1n, 'CrInterceptCr0Mask', TS, { op: 'mov', to: 'cr0', value: 0x8000_0019 }, 1],
    ['CR0 with another bit in the mask', 1n, 'CrInterceptCr0Mask', 1n << 16n, { op: 'mov', to: 'cr0', value: 0x8000_0019 }, 0],
    ['CR0 with the mask of reset', 1n, null, 0n, { op: 'mov', to: 'cr0', value: 0x8000_0019 }, 0],
    ['CR0 with a mask but no control bit', 0n, 'CrInterceptCr0Mask', TS, { op: 'mov', to: 'cr0', value: 0x8000_0019 }, 0],
    ['CR0 without a change', 1n, 'CrInterceptCr0Mask', TS, { op: 'mov', to: 'cr0', value: 0x8000_0011 }, 0],
    ['CR4', 2n, 'CrInterceptCr4Mask', 0x200n, { op: 'mov', to: 'cr4', value: 0x220 }, 1],
    ['XCR0', 4n, null, 0n, { op: 'mov', to: 'xcr0', value: 3 }, 1],
    ['MISC_ENABLE read', 8n, null, 0n, { op: 'rdmsr', index: 0x1a0 }, 1],
    ['MISC_ENABLE write in the mask', 16n, 'CrInterceptIa32MiscEnableMask', 1n, { op: 'wrmsr', index: 0x1a0, value: 0x1800 }, 1],
    ['MISC_ENABLE write outside the mask', 16n, 'CrInterceptIa32MiscEnableMask', 2n, { op: 'wrmsr', index: 0x1a0, value: 0x1800 }, 0],
    ['LSTAR read', 1n << 5n, null, 0n, { op: 'rdmsr', index: 0xc000_0082 }, 1],
    ['LSTAR write', 1n << 6n, null, 0n, { op: 'wrmsr', index: 0xc000_0082, value: 1 }, 1],
    ['LSTAR write when reads are asked for', 1n << 5n, null, 0n, { op: 'wrmsr', index: 0xc000_0082, value: 1 }, 0],
    ['APIC base write', 0x1000n, null, 0n, { op: 'wrmsr', index: 0x1b, value: 0xfee0_0900 }, 1],
    ['EFER write', 1n << 14n, null, 0n, { op: 'wrmsr', index: 0xc000_0080, value: 0x501 }, 1],
    ['TSC_AUX write', 1n << 23n, null, 0n, { op: 'wrmsr', index: 0xc000_0103, value: 1 }, 1],
    ['SYSENTER_CS write', 1n << 19n, null, 0n, { op: 'wrmsr', index: 0x174, value: 1 }, 1],
  ] as const)('%s', (_what, control, maskName, mask, step, expected) => {
    const g = new Vtls(1);
    let done = false;
    const messages = scene(g, arm(control, maskName, mask), function* () { yield step as Step; done = true; }, skip);
    expect([messages.length, done]).toEqual([expected, true]);
  });

  it('tell of MSR and register with what was to be written, and change nothing', () => {
    const g = new Vtls(1);
    const messages = scene(
      g,
      function* () {
        yield* setRegister(1, HvRegister.CrInterceptControl, 0x41n);
        yield* setRegister(1, HvRegister.CrInterceptCr0Mask, TS);
      },
      function* () {
        yield { op: 'wrmsr', index: 0xc000_0082, value: '0x0000123456789abc' };
        yield { op: 'mov', to: 'cr0', value: 0x8000_0019 };
      },
      skip,
    );
    const [msr, register] = messages.map(read);
    expect(msr).toMatchObject({ header: { type: HvMessageType.MsrIntercept, payloadSize: 0x40 }, kind: 'msrIntercept', value: { header: { accessType: 1, instructionLengthAndCr8: { instructionLength: 1 } }, msrNumber: 0xc000_0082, rdx: 0x1234n, rax: 0x5678_9abcn } });
    expect(register).toMatchObject({ header: { type: HvMessageType.RegisterIntercept, payloadSize: 0x40 }, kind: 'registerIntercept', value: { flags: { isMemoryOperand: false }, registerName: HvRegister.Cr0, sourceValue: { low: 0x8000_0019n, high: 0n } } });
    expect([g.get(0, 0, 'lstar'), g.get(0, 0, 'cr0')]).toEqual([0n, 0x8000_0011n]);
  });

  it('refuse control bits that are not defined, and every instance of VTL0', () => {
    const g = new Vtls(1);
    const seen: unknown[] = [];
    scene(
      g,
      function* () {
        for (const [value, vtl] of [[1n << 29n, 0], [0x1fff_ffffn, 0], [0x1000n, 0], [1n, 0x10]] as const) seen.push(yield* setRegister(1, HvRegister.CrInterceptControl, value, vtl));
        seen.push(yield* getRegister(1, HvRegister.CrInterceptControl));
      },
      function* () {
        yield { op: 'work' };
      },
    );
    expect(seen).toEqual([0x50, 0, 0, 6, 0x1000n]);
  });
});

describe('other intercepts', () => {
  it('ports: message, and the access is not made', () => {
    const g = new Vtls(1);
    const messages = scene(
      g,
      function* () {
        const input = new Uint8Array(24).fill(255, 0, 8);
        input[8] = 2;
        input[16] = 0x70;
        expect((yield* slow(1, 0x4d, input)).status).toBe(0);
      },
      function* () {
        yield { op: 'out', port: 0x70, size: 1, value: 0x8f, regs: { rax: 0xaabbcc00 } };
      },
      function* () {
        yield* setRegister(1, HvRegister.Rip, (yield* getRegister(1, HvRegister.Rip, 0x10)) + 1n, 0x10);
      },
    );
    expect(read(messages[0]!)).toMatchObject({ header: { type: HvMessageType.X64IoPortIntercept, payloadSize: 0x80 }, kind: 'ioPortIntercept', value: { header: { accessType: 1 }, portNumber: 0x70, accessInfo: { accessSize: 1, stringOp: false, repPrefix: false }, rax: 0xaabb_cc8fn } });
  });

  it('triple faults, when VTL1 wants them; a reset otherwise', () => {
    const g = new Vtls(1);
    const messages = scene(
      g,
      function* () {
        yield* setRegister(1, HvRegister.VsmPartitionConfig, PROTECT_ALL | 0x800n);
      },
      function* () {
        yield { op: 'shutdown' };
      },
      function* () {
        yield* setRegister(1, HvRegister.VsmPartitionConfig, PROTECT_ALL);
      },
    );
    expect(read(messages[0]!)).toMatchObject({ header: { type: HvMessageType.UnrecoverableException, payloadSize: 0x28 } });
    expect(g.machine.vp(0).exit?.kind).toBe('reset');
  });

  it('unimplemented leaves of the interface', () => {
    const g = new Vtls(1);
    const messages = scene(
      g,
      function* () {
        yield* setRegister(1, HvRegister.VsmPartitionConfig, PROTECT_ALL | 0x400n);
      },
      function* () {
        yield { op: 'cpuid', leaf: 0x4000_0001 };
        yield { op: 'cpuid', leaf: 0x4000_0090, subleaf: 3 };
      },
      function* () {
        yield* setRegister(1, HvRegister.Rip, (yield* getRegister(1, HvRegister.Rip, 0x10)) + 1n, 0x10);
      },
    );
    expect(messages.map(read)).toMatchObject([{ header: { type: HvMessageType.X64CpuidIntercept, payloadSize: 0x68 }, kind: 'cpuidIntercept', value: { rax: 0x4000_0090n, rcx: 3n, defaultResultRax: 0n } }]);
  });

  it('exceptions have their message', () => {
    const g = new Vtls(1);
    const bytes = g.hv.chapters.intercepts.messages.exception(g.context(0, 0), 14, 6, 0x1234, 0xffff_8000);
    expect(read(bytes)).toMatchObject({ header: { type: HvMessageType.ExceptionIntercept, payloadSize: 0xf0 }, kind: 'exceptionIntercept', value: { vector: 14, exceptionInfo: { errorCodeValid: true }, errorCode: 6, exceptionParameter: 0xffff_8000_0000_1234n } });
  });
});
