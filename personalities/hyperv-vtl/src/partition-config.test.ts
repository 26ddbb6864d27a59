import { Right } from '@vmplanes/engine';
import { describe, expect, it } from 'vitest';
import { defaultOptions, type HvOptions } from './options.ts';
import { isLegalMask, normalMask, ordered } from './page-rights.ts';
import { defaultRights, grantedByDefault, writePartitionConfig } from './partition-config.ts';

const RESET = 0x3en;
const OK = 0, VALUE = 0x50;
const write = (value: bigint, { old = RESET, isProtecting = false, isMbec = false, ...options }: { old?: bigint; isProtecting?: boolean; isMbec?: boolean } & Partial<HvOptions> = {}) => writePartitionConfig(old, isProtecting, value, isMbec, { ...defaultOptions, ...options });
const refused = (old = RESET, status = VALUE) => ({ status, value: old, protects: false });

describe('VsmPartitionConfig', () => {
  // 0 protection, 4:1 default rights, 5 zero memory, 6 deny startup, 10 CPUID, 11 triple faults, 12 intercept page. The rest is for a paravisor.
  it.each(Array.from({ length: 64 }, (_, n) => n))('bit %i', (bit) => {
    const mine = [0, 1, 2, 3, 4, 5, 6, 10, 11, 12].includes(bit);
    const value = 0x1en | (1n << BigInt(bit));
    expect(write(value)).toEqual(mine ? { status: OK, value, protects: bit === 0 } : refused());
  });
  it.each([[0, false], [1, false], [2, false], [3, true], [5, false], [7, true], [0xb, true], [0xd, false], [0xf, true]])('default rights %i need read and write', (rights, isLegal) => {
    const value = BigInt(rights << 1);
    expect(write(value)).toEqual(isLegal ? { status: OK, value, protects: false } : refused());
  });
  it('default rights with execution split or strict', () => {
    const status = (rights: number, options: object): number => write(BigInt(rights << 1), options).status;
    expect([7, 0xb, 0xf].map((rights) => status(rights, { strictExecBits: true }))).toEqual([VALUE, VALUE, OK]);
    expect([7, 0xb, 0xf].map((rights) => status(rights, { isMbec: true }))).toEqual([VALUE, OK, OK]);
    expect([7, 0xb].map((rights) => status(rights, { isMbec: true, executeBitOrder: 'userFirst' }))).toEqual([OK, VALUE]);
  });
  it('protects by its bit, or by any write', () => {
    expect([write(0x1en).protects, write(0x1fn).protects, write(0x1en, { protectionsEnabledBy: 'write' }).protects, write(0x1fn, { protectionsEnabledBy: 'write' }).protects]).toEqual([false, true, true, true]);
  });
  it('keeps protection and rights from then on', () => {
    const on = { old: 0x1fn, isProtecting: true };
    expect(write(0x1fn, on)).toEqual({ status: OK, value: 0x1fn, protects: false });
    expect(write(0x21n, on)).toEqual({ status: OK, value: 0x3fn, protects: false });
    expect(write(0x1000n, on)).toEqual({ status: OK, value: 0x101fn, protects: false });
    expect(write(0x05n, { old: 0x1007n, isProtecting: true })).toEqual({ status: OK, value: 7n, protects: false });
    expect(write(0x80n, on)).toEqual(refused(0x1fn));
  });
  it('refuses such changes by option, each with its status', () => {
    const on = { old: 0x1fn, isProtecting: true };
    expect([write(0x17n, { ...on, maskChangeStatus: 0x50 }), write(0x5fn, { ...on, maskChangeStatus: 0x50 }).value]).toEqual([refused(0x1fn), 0x5fn]);
    expect([write(0x1en, { ...on, protectionClearStatus: 0x50 }), write(0x5fn, { ...on, protectionClearStatus: 0x50 }).value, write(0x1fn, { old: 0x1en, isProtecting: true, protectionClearStatus: 0x50 }).value]).toEqual([refused(0x1fn), 0x5fn, 0x1fn]);
  });
  it('gives default rights as permission tables have them', () => {
    expect([defaultRights(0x1en), defaultRights(0x20n), defaultRights(0x2n), defaultRights(0x10n)]).toEqual([0xf, 0, 1, 8]);
    const all = Right.Read | Right.Write | Right.ExecSupervisor | Right.ExecUser | Right.ShadowStack;
    expect([grantedByDefault(0x1fn, false, defaultOptions), grantedByDefault(0x6n, false, defaultOptions), grantedByDefault(0x16n, false, defaultOptions), grantedByDefault(0x16n, true, defaultOptions)]).toEqual([
      all, Right.Read | Right.Write | Right.ShadowStack, all, Right.Read | Right.Write | Right.ExecUser | Right.ShadowStack,
    ]);
    expect(grantedByDefault(0x0en, true, { ...defaultOptions, executeBitOrder: 'userFirst' })).toBe(Right.Read | Right.Write | Right.ExecUser | Right.ShadowStack);
  });
});

describe('access flags', () => {
  const masks = Array.from({ length: 16 }, (_, n) => n);
  it('change the order of their execute bits', () => {
    expect(masks.map((n) => ordered(n, { executeBitOrder: 'kernelFirst' }))).toEqual(masks);
    expect(masks.map((n) => ordered(n, { executeBitOrder: 'userFirst' }))).toEqual([0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]);
    expect(ordered(0x8014, { executeBitOrder: 'userFirst' })).toBe(0x8018);
  });
  it.each([
    ['any', false, false, [0, 1, 3, 5, 7, 9, 11, 13, 15]],
    ['strict', false, true, [0, 1, 3, 13, 15]],
    ['split', true, false, [0, 1, 3, 9, 11, 13, 15]],
    ['split and strict', true, true, [0, 1, 3, 9, 11, 13, 15]],
  ])('that can stand: %s', (_what, isMbec, isStrict, legal) => {
    expect(masks.filter((n) => isLegalMask(n, isMbec, isStrict))).toEqual(legal);
    for (const bit of [4, 5, 15, 31]) expect(isLegalMask((1 << bit) | 0xf, isMbec, isStrict), String(bit)).toBe(false);
  });
  it('become rights', () => {
    const of = (isMbec: boolean): readonly number[] => [0, 1, 3, 5, 9, 13].map((n) => normalMask(n, isMbec));
    const { Read, Write, ExecSupervisor: K, ExecUser: U, ShadowStack: S } = Right;
    expect(of(false)).toEqual([0, Read | S, Read | S | Write, Read | S | K | U, Read | S | K | U, Read | S | K | U]);
    expect(of(true)).toEqual([0, Read | S, Read | S | Write, Read | S | K, Read | S | U, Read | S | K | U]);
  });
});
