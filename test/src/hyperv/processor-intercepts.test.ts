import { HvCall } from '@vmplanes/abi-hyperv';
import type { RegisterName, Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { type BenchConfig, policies } from './bench.ts';
import { DATA, type Guest, mapIdentity, Msr, ready, SELF, target, VP_SELF } from './guest.ts';

// Intercepts of exceptions, CPUID and triple faults, byte for byte.

type Options = NonNullable<BenchConfig['options']>;
const OK = 0, PARAMETER = 5, DENIED = 6, NOT_FOUND = 0x10;
const EXCEPTION = 3, CPUID = 2, EXECUTE = 4;

/** A message with fields put at their offsets of the payload; everything else is zero. */
class Expected {
  readonly bytes = new Uint8Array(256);
  readonly #view = new DataView(this.bytes.buffer);

  constructor(type: number, payloadSize: number) {
    this.#view.setUint32(0, type, true);
    this.#view.setUint8(4, payloadSize);
  }
  u8(at: number, value: number): this {
    this.#view.setUint8(16 + at, value);
    return this;
  }
  u16(at: number, value: number): this {
    this.#view.setUint16(16 + at, value, true);
    return this;
  }
  u32(at: number, value: number): this {
    this.#view.setUint32(16 + at, value, true);
    return this;
  }
  u64(at: number, value: bigint): this {
    this.#view.setBigUint64(16 + at, value, true);
    return this;
  }
  segment(at: number, selector: number, attributes: number, limit = 0xffff_ffff): this {
    return this.u32(at + 8, limit).u16(at + 12, selector).u16(at + 14, attributes);
  }
  /** VP 0 at CPL 0, protected and long mode, CR8 0, VTL0; access type execute. @param length - bytes; scripted instructions have one. */
  header(length: number, rip: bigint, rflags: bigint): this {
    return this.u8(4, length).u8(5, 2).u16(6, 0b1_0100).segment(8, 8, 0xa09b).u64(24, rip).u64(32, rflags);
  }
}
const generals = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const satisfies readonly RegisterName[];
const hexOf = (view: DataView): string => Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString('hex').replace(/(.{32})/g, '$1\n');

describe.each(policies)('under %s', (policy) => {
  const install = (guest: Guest, interceptType: number, parameter: bigint, accessTypeMask = EXECUTE, partitionId = SELF): number =>
    guest.call(HvCall.InstallIntercept, { header: { partitionId, accessTypeMask, interceptType, interceptParameters: parameter } }).status;
  const watching = (interceptType: number, parameter: bigint, options: Options = {}): Guest => {
    const guest = ready({ policy, options: { installInterceptCaller: 'higherVtlAll', ...options } });
    guest.enter();
    expect(install(guest, interceptType, parameter)).toBe(OK);
    guest.leave();
    guest.plain({ op: 'work' });
    generals.forEach((name, i) => {
      if (name !== 'rsp') guest.set({ [name]: BigInt(0x1000 + i) });
    });
    return guest;
  };
  const registers = (expected: Expected, guest: Guest): Expected => {
    expected.segment(0x50, 0x10, 0xc093).segment(0x60, 0x10, 0xc093);
    generals.forEach((name, i) => expected.u64(0x70 + 8 * i, guest.get(name, 0, 0)));
    return expected;
  };

  // -- exceptions ----------------------------------------------------------------------------------------------------------------

  const raised: readonly (readonly [string, number, Step, number | null, bigint])[] = [
    ['#UD', 6, { op: 'call', via: 'vmgexit' }, null, 0n],
    ['#GP', 13, { op: 'rdmsr', index: 0x1234_5678 }, 0, 0n],
    ['#PF', 14, { op: 'read', gva: 0x80_0000_0000n, size: 8 }, 0, 0x80_0000_0000n],
  ];
  it.each(raised)('TLFS v6.0b 11.9, exception intercept: %s, vector %i, as a whole', (_name, vector, step, errorCode, parameter) => {
    const guest = watching(EXCEPTION, BigInt(vector));
    mapIdentity(guest);
    const issued = guest.issue(step);
    expect([guest.active(), issued.result, guest.entryReason()]).toEqual([1, null, 2]);
    const expected = new Expected(0x8001_0003, 0xf0).header(0, guest.get('rip', 0, 0), guest.get('rflags', 0, 0)).u16(0x28, vector).u8(0x2a, errorCode === null ? 0 : 1).u32(0x2c, errorCode ?? 0).u64(0x30, parameter);
    expect(hexOf(guest.message())).toBe(hexOf(new DataView(registers(expected, guest).bytes.buffer)));
    // The exception is not delivered, and what it would have changed is unchanged.
    expect([guest.get('exception.state', 0, 0), guest.taken(0, 0), guest.get('cr2', 0)]).toEqual([0n, [], 0n]);
  });
  it('exception intercept: the instruction is executed again when VTL1 returns', () => {
    const guest = watching(EXCEPTION, 13n);
    const issued = guest.issue({ op: 'rdmsr', index: 0x1234_5678 });
    guest.takeMessage();
    guest.interruptFlag(true);
    guest.run(3);
    guest.leave(0, 0n);
    guest.run(3);
    expect([guest.active(), issued.result, guest.message().getUint32(0, true)]).toEqual([1, null, 0x8001_0003]);
  });
  it('exception intercept: VTL1 gives VTL0 the exception, which is not intercepted again', () => {
    const guest = watching(EXCEPTION, 13n);
    const issued = guest.issue({ op: 'rdmsr', index: 0x1234_5678 });
    guest.takeMessage();
    guest.interruptFlag(true);
    guest.run(3);
    guest.put('PendingEvent0', 1n | 0x100n | (13n << 16n) | (0x28n << 32n), { vtl: target(0) });
    guest.leave(0, 0n);
    guest.finish(issued);
    expect([guest.active(), issued.result?.fault]).toEqual([0, { vector: 13, errorCode: 0x28, address: 0n }]);
  });
  it('exception intercept: VTL1 stands in for the instruction', () => {
    const guest = watching(EXCEPTION, 13n);
    const issued = guest.issue({ op: 'rdmsr', index: 0x1234_5678 });
    const rip = guest.takeMessage().getBigUint64(16 + 24, true);
    guest.interruptFlag(true);
    guest.run(3);
    guest.put('Rip', rip + 1n, { vtl: target(0) });
    guest.leave(0, 0n);
    guest.finish(issued);
    expect([guest.active(), issued.result?.fault]).toEqual([0, null]);
  });
  it('exception intercept: other vectors, and exceptions of VTL1, are delivered', () => {
    const guest = watching(EXCEPTION, 6n);
    expect(guest.step({ op: 'rdmsr', index: 0x1234_5678 }).fault?.vector).toBe(13);
    guest.enter();
    expect(guest.step({ op: 'call', via: 'vmgexit' }).fault?.vector).toBe(6);
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([1, 0]);
  });
  it('exception intercept: taken away, exceptions are delivered', () => {
    const guest = watching(EXCEPTION, 13n);
    guest.enter();
    expect(install(guest, EXCEPTION, 13n, 0)).toBe(OK);
    guest.leave();
    guest.plain({ op: 'work' });
    expect(guest.step({ op: 'rdmsr', index: 0x1234_5678 }).fault?.vector).toBe(13);
  });
  it('exception intercept: without a SynIC in VTL1 the exception is delivered', () => {
    const guest = watching(EXCEPTION, 13n);
    guest.enter();
    guest.wrmsr(Msr.scontrol, 0);
    guest.leave();
    guest.plain({ op: 'work' });
    expect(guest.step({ op: 'rdmsr', index: 0x1234_5678 }).fault).toMatchObject({ vector: 13, errorCode: 0 });
  });
  it('exception intercept: a page protected by VTL1 is a memory intercept, no exception', () => {
    const guest = watching(EXCEPTION, 14n);
    guest.enter();
    guest.protect(0, DATA >> 12);
    guest.leave();
    guest.plain({ op: 'work' });
    guest.issue({ op: 'read', gpa: DATA });
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([1, 0x8000_0001]);
  });
  it.each([
    ['the NMI', EXCEPTION, 2n, EXECUTE, PARAMETER],
    ['vector 32', EXCEPTION, 32n, EXECUTE, PARAMETER],
    ['a vector of 64 bits', EXCEPTION, 1n << 32n, EXECUTE, PARAMETER],
    ['reads of an exception', EXCEPTION, 13n, 1, PARAMETER],
    ['writes of CPUID', CPUID, 1n, 2, PARAMETER],
    ['a leaf of 64 bits', CPUID, 1n << 32n, EXECUTE, PARAMETER],
    ['an MSR', 1, 0x10n, 3, PARAMETER],
    ['a port', 0, 0x70n, 3, OK],
  ] as const)('installInterceptCaller higherVtlAll, HvCallInstallIntercept: %s', (_what, type, parameter, mask, status) => {
    const guest = ready({ policy, options: { installInterceptCaller: 'higherVtlAll' } });
    guest.enter();
    expect(install(guest, type, parameter, mask)).toBe(status);
  });
  it('installInterceptCaller higherVtlAll: VTL0 has nobody below', () => {
    expect(install(ready({ policy, options: { installInterceptCaller: 'higherVtlAll' } }), EXCEPTION, 13n)).toBe(DENIED);
  });
  it('exception intercept: is part of the state, and gone with a reset', () => {
    const guest = watching(EXCEPTION, 13n);
    const saved = structuredClone(guest.hv.save());
    const other = ready({ policy, options: { installInterceptCaller: 'higherVtlAll' } });
    other.hv.chapters.processorIntercepts.restore((saved as Record<string, never>)['processor-intercepts']!);
    other.issue({ op: 'rdmsr', index: 0x1234_5678 });
    expect([other.active(), other.message().getUint32(0, true)]).toEqual([1, 0x8001_0003]);
    other.hv.chapters.processorIntercepts.reset();
    expect(other.arch.exceptionExits).toBe(null);
  });

  // -- CPUID ------------------------------------------------------------------------------------------------------------------------

  it.each([['of the processor', 0x1, 0], ['of the interface', 0x4000_0003, 5]] as const)('TLFS v6.0b 11.9, CPUID intercept: a leaf %s, as a whole', (_what, leaf, subleaf) => {
    const plain = ready({ policy });
    const gives = plain.plain({ op: 'cpuid', leaf, subleaf });
    const guest = watching(CPUID, BigInt(leaf));
    const issued = guest.issue({ op: 'cpuid', leaf, subleaf });
    expect([guest.active(), issued.result]).toEqual([1, null]);
    const expected = new Expected(0x8001_0002, 0x68).header(1, guest.get('rip', 0, 0), guest.get('rflags', 0, 0))
      .u64(0x28, BigInt(leaf)).u64(0x30, BigInt(subleaf)).u64(0x38, 0x1002n).u64(0x40, 0x1003n)
      .u64(0x48, gives.rax).u64(0x50, gives.rcx).u64(0x58, gives.rdx).u64(0x60, gives.rbx);
    const bytes = guest.message();
    expect(hexOf(bytes)).toBe(hexOf(new DataView(expected.bytes.buffer)));
    expect([guest.get('rdx', 0, 0), guest.get('rbx', 0, 0)]).toEqual([0x1002n, 0x1003n]);
  });
  it('CPUID intercept: other leaves, and those that VTL1 reads, give their result', () => {
    const guest = watching(CPUID, 1n);
    expect(guest.plain({ op: 'cpuid', leaf: 0x4000_0001 }).rax).toBe(0x3123_7648n);
    guest.enter();
    guest.plain({ op: 'cpuid', leaf: 1 });
    expect([guest.active(), guest.message().getUint32(0, true)]).toEqual([1, 0]);
  });
  it('TLFS HvCallRegisterInterceptResult: what VTL2 registers is for VTL0 and VTL1, what VTL1 registers for VTL0 alone', () => {
    const guest = ready({ policy, options: { maximumVtl: 2 } });
    const read = (): bigint => guest.plain({ op: 'cpuid', leaf: 0x4000_0002 }).rax & 0xffffn;
    const block = (value: number, mask: number): Uint8Array => {
      const view = new DataView(new ArrayBuffer(64));
      view.setBigUint64(0, SELF, true);
      [VP_SELF, CPUID, 0x4000_0002, 0, 0, value, mask].forEach((word, i) => view.setUint32(8 + 4 * i, word, true));
      return new Uint8Array(view.buffer);
    };
    const plain = read();
    guest.enter();
    expect([guest.enablePartitionVtl(2), guest.enableVpVtl(VP_SELF, 2)]).toEqual([OK, OK]);
    expect(guest.callRaw(0x91, block(0x11, 0xff)).status).toBe(OK);
    guest.enter();
    guest.openInterface();
    expect(guest.callRaw(0x91, block(0x2222, 0xffff)).status).toBe(OK);
    expect(read()).toBe(plain);
    guest.leave();
    expect(read()).toBe(0x2222n);
    guest.leave();
    expect(read()).toBe(0x2222n);
    guest.enter();
    // Each takes back its own.
    expect(guest.callRaw(0x92, block(0, 0)).status).toBe(OK);
    expect([guest.callRaw(0x92, block(0, 0)).status, read()]).toEqual([NOT_FOUND, 0x2222n]);
  });
  it('CPUID intercept of leaves that are not implemented (InterceptCpuidUnimplemented), as a whole', () => {
    const guest = ready({ policy, partitionConfig: 0x43fn });
    guest.set({ rdx: 0x77n, rbx: 0x88n });
    guest.issue({ op: 'cpuid', leaf: 0x4000_0090, subleaf: 3 });
    const bytes = guest.message();
    const expected = new Expected(0x8001_0002, 0x68).header(1, guest.get('rip', 0, 0), guest.get('rflags', 0, 0)).u64(0x28, 0x4000_0090n).u64(0x30, 3n).u64(0x38, 0x77n).u64(0x40, 0x88n);
    expect([guest.active(), hexOf(bytes)]).toEqual([1, hexOf(new DataView(expected.bytes.buffer))]);
  });

  // -- what ends a VTL -----------------------------------------------------------------------------------------------------------------

  it('TLFS v6.0b 11.9, unrecoverable exception (InterceptUnrecoverableException): the message is its header', () => {
    const guest = ready({ policy, partitionConfig: 0x83fn });
    guest.issue({ op: 'shutdown' });
    const expected = new Expected(0x8000_0021, 0x28).header(0, guest.get('rip', 0, 0), guest.get('rflags', 0, 0));
    expect([guest.active(), hexOf(guest.message()), guest.exits]).toEqual([1, hexOf(new DataView(expected.bytes.buffer)), []]);
  });
});
