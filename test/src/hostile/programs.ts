import { msrRows, type RegisterName, type Step, type TableScript, x86ContextLayout } from '@vmplanes/x86';
import fc from 'fast-check';

/** Values at which ranges, signs and carries end. */
const edges: readonly bigint[] = [0n, 1n, 2n, 0x7fn, 0xffn, 0xfffn, 0x1000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x1_0000_0000n, (1n << 47n) - 1n, 1n << 47n, 1n << 51n, (1n << 52n) - 1n, 1n << 52n, (1n << 63n) - 1n, 1n << 63n, (1n << 64n) - 1n];
const value = fc.oneof(fc.constantFrom(...edges), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), fc.integer({ min: 0, max: 0x400 }).map(BigInt));

/** Places where something begins, ends or lies across a border. */
const gpa = fc.oneof(
  fc.constantFrom(0n, 1n, 0xffcn, 0xfffn, 0x5000n, 0xf_fff8n, 0xf_ffffn, 0x10_0000n, 0xfee0_0000n, 0xfee0_0300n, 0xfee0_0ffcn, 0xfedf_fffcn, 0xffff_ffffn, 0x1_0000_0000n, (1n << 52n) - 8n, (1n << 52n) - 1n),
  fc.bigInt({ min: 0n, max: (1n << 52n) - 1n }),
);
const address = fc.oneof(gpa.map((at) => ({ gpa: at })), value.map((at) => ({ gva: at })));

const apicMsrs = [0x1b, 0x6e0, 0x802, 0x808, 0x80b, 0x80d, 0x80f, 0x828, 0x830, 0x832, 0x838, 0x839, 0x83e, 0x83f];
const kvmMsrs = [0x11, 0x12, 0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, 0x4b56_4d04, 0x4b56_4d05, 0x4b56_4d06, 0x4b56_4d07, 0x4b56_4d08, 0x4578_0000, 0x4578_0001];
const msr = fc.oneof(fc.constantFrom(...msrRows.map((r) => r.index)), fc.constantFrom(...apicMsrs), fc.constantFrom(...kvmMsrs), fc.integer({ min: 0, max: 0xffff_ffff }));

const size = fc.constantFrom(1, 2, 4, 8);
const kvmCalls = [0, 1, 5, 9, 10, 11, 12, 13];
const call = fc.record({ rax: fc.oneof(fc.constantFrom(...kvmCalls), value), rbx: fc.oneof(value, gpa), rcx: value, rdx: value, rsi: value });
/** Interrupt commands: any, and those with modes, shorthands and destinations that exist. */
const icr = fc.oneof(
  value,
  fc.record({ vector: fc.constantFrom(0, 15, 16, 0x40, 0xff), mode: fc.nat(7), flags: fc.constantFrom(0, 0x4000, 0x8000, 0xc000, 0x800), shorthand: fc.nat(3), destination: fc.constantFrom(0, 1, 2, 3, 0xff, 0xffff_ffff) })
    .map((f) => (BigInt(f.destination) << 32n) | BigInt(f.vector | (f.mode << 8) | f.flags | (f.shorthand << 18))),
);

/** A step that a hostile guest might make: everything well-formed, nothing sensible. */
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ regs: call, via: fc.constantFrom('vmcall', 'vmmcall', 'vmgexit') }).map((s) => ({ op: 'call' as const, ...s }) as Step) },
  { weight: 6, arbitrary: fc.record({ index: msr, value: fc.oneof(value, gpa.map((g) => g | 1n)) }).map((s) => ({ op: 'wrmsr' as const, ...s })) },
  { weight: 2, arbitrary: msr.map((index) => ({ op: 'rdmsr' as const, index })) },
  { weight: 1, arbitrary: fc.record({ leaf: fc.oneof(fc.nat(0x20), fc.constantFrom(0x4000_0000, 0x4000_0001, 0x4000_0010, 0x4000_0200, 0x8000_0000, 0x8000_001e, 0xffff_ffff)), subleaf: fc.nat(70) }).map((s) => ({ op: 'cpuid' as const, ...s })) },
  { weight: 1, arbitrary: fc.record({ port: fc.nat(0xffff), size: fc.constantFrom(1, 2, 4) }).map((s) => ({ op: 'in' as const, ...s }) as Step) },
  { weight: 4, arbitrary: fc.tuple(size, address).map(([n, at]) => ({ op: 'read' as const, size: n, ...at }) as Step) },
  { weight: 4, arbitrary: fc.tuple(size, address, value).map(([n, at, v]) => ({ op: 'write' as const, size: n, value: v, ...at }) as Step) },
  { weight: 1, arbitrary: fc.tuple(address, fc.uint8Array({ minLength: 1, maxLength: 9 })).map(([at, bytes]) => ({ op: 'fill' as const, bytes: Buffer.from(bytes).toString('hex'), ...at }) as Step) },
  { weight: 1, arbitrary: fc.tuple(address, fc.boolean()).map(([at, user]) => ({ op: 'execute' as const, user, ...at }) as Step) },
  { weight: 3, arbitrary: fc.record({ to: fc.constantFrom<'cr0' | 'cr3' | 'cr4' | 'cr8' | 'dr7' | 'xcr0'>('cr0', 'cr3', 'cr4', 'cr8', 'dr7', 'xcr0'), value: fc.oneof(value, fc.constantFrom(0x8000_0011n, 0x20n, 0x620n, 0x5000n)) }).map((s) => ({ op: 'mov' as const, ...s })) },
  { weight: 4, arbitrary: icr.map((v) => ({ op: 'ipi' as const, icr: v })) },
  { weight: 2, arbitrary: fc.nat(0x3f).map((register) => ({ op: 'apicRead' as const, register })) },
  { weight: 4, arbitrary: fc.record({ register: fc.oneof(fc.nat(0x3f), fc.constantFrom(0x08, 0x0f, 0x32, 0x38, 0x3e)), value: fc.oneof(value, fc.constantFrom(0x1ffn, 0x2_0040n, 0x4_0040n, 0x40n, 0xbn)) }).map((s) => ({ op: 'apicWrite' as const, ...s })) },
  { weight: 4, arbitrary: fc.constantFrom<Step>({ op: 'eoi' }, { op: 'sti' }, { op: 'cli' }, { op: 'hlt' }, { op: 'busLock' }, { op: 'work', cost: 50 }, { op: 'work', cost: 0xffff_ffff }) },
  { weight: 1, arbitrary: fc.tuple(fc.constantFrom(...x86ContextLayout.registers.filter((r) => r.size <= 8 && r.architectural !== false && !(r.groups ?? []).includes('events')).map((r) => [r.name, r.size] as const)), value).map(([[name, bytes], v]) => ({ op: 'work' as const, regs: { [name as RegisterName]: bytes === 4 ? v & 0xffff_ffffn : v } })) },
);

/** A program: a table with handlers, of which half loop for ever. */
export const hostileScript = (id: string): fc.Arbitrary<TableScript> =>
  fc.record({ steps: fc.array(step, { maxLength: 25 }), loops: fc.boolean(), handler: fc.option(fc.array(step, { maxLength: 4 }), { nil: undefined }), on: fc.boolean() }).map(({ steps, loops, handler, on }) => ({
    id,
    steps: [...(on ? [{ op: 'apicWrite', register: 0x0f, value: 0x1ff } as const, { op: 'sti' } as const] : []), ...steps, ...(loops ? [{ op: 'jump', to: 0 } as const] : [])],
    ...(handler === undefined ? {} : { handlers: { default: [...handler, { op: 'eoi' } as const] } }),
  }));
