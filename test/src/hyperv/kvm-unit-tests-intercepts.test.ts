import { describe, expect, it } from 'vitest';
import { policies } from './bench.ts';
import { DATA, type Guest, ready, type ReadyConfig } from './guest.ts';

// Secure intercepts: the cases 40 to 42 of x86/hyperv_vsm.c of kvm-unit-tests (branch vsm-next). A scripted instruction has one byte, which is 0.

describe.each(policies)('under %s', (policy) => {
  const secured = (more: ReadyConfig = {}): Guest => ready({ policy, vps: 2, ...more });

  /** The message of a refused access of VTL0 on VP 0, as the suite's template has it. */
  const template = (guest: Guest, accessType: number, gpa: number): Uint8Array => {
    const bytes = new Uint8Array(256);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 0x8000_0001, true);
    view.setUint8(4, 0xf0);
    const payload = new DataView(bytes.buffer, 16);
    payload.setUint32(0, 0, true);
    // A scripted instruction is one byte, 0; of one that cannot be fetched neither length nor bytes are known.
    payload.setUint8(4, accessType === 2 ? 0 : 1);
    payload.setUint8(0x2c, accessType === 2 ? 0 : 1);
    payload.setUint8(5, accessType);
    payload.setUint16(6, 0x14, true);
    const segment = (at: number, selector: number, attributes: number): void => {
      payload.setUint32(at + 8, 0xffff_ffff, true);
      payload.setUint16(at + 12, selector, true);
      payload.setUint16(at + 14, attributes, true);
    };
    segment(8, 8, 0xa09b);
    payload.setBigUint64(24, guest.get('rip', 0, 0), true);
    payload.setBigUint64(32, guest.get('rflags', 0, 0) | 0x1_0000n, true);
    payload.setUint32(0x28, 6, true);
    payload.setBigUint64(0x38, BigInt(gpa), true);
    segment(0x50, 0x10, 0xc093);
    segment(0x60, 0x10, 0xc093);
    (['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15'] as const).forEach((name, i) => payload.setBigUint64(0x70 + 8 * i, guest.get(name, 0, 0), true));
    return bytes;
  };
  const registersOfCaller = { rax: DATA, rbx: 0x1b, rcx: 0x1c, rdx: 0x1d, rbp: 0x1e, rsi: 0x1f, rdi: 0x20, r8: 0x21, r9: 0x22, r10: 0x23, r11: 0x24, r12: 0x25, r13: 0x26, r14: 0x27, r15: 0x28 };
  const frame = DATA >> 12;
  it.each([
    ['#40: read', 0, { op: 'read', gpa: DATA }, 0],
    ['#41: write', 1, { op: 'write', gpa: DATA, value: 7 }, 1],
    ['#42: execute', 3, { op: 'execute', gpa: DATA }, 2],
  ] as const)('kvm-unit-tests hyperv_vsm.c %s intercept', (_what, rights, step, accessType) => {
    const guest = secured({ partitionConfig: 0x17n });
    guest.poke64(0, DATA, 0x55n);
    guest.enter();
    guest.interruptFlag(true, 0, 1);
    const modified = guest.protect(rights, frame);
    expect([modified.status, modified.reps]).toEqual([0, 1]);
    guest.leave();
    guest.set(registersOfCaller);
    const access = guest.issue(step);
    expect([access.result, guest.active(), guest.entryReason()]).toEqual([null, 1, 2]);
    const expected = template(guest, accessType, DATA);
    guest.run(3);
    expect(guest.taken(0, 1)).toEqual([0x30]);
    const message = new Uint8Array(guest.takeMessage().buffer);
    // By offset, value found and value expected.
    expect([...message.entries()].filter(([at, value]) => value !== expected[at]).map(([at, value]) => [at, value, expected[at]])).toEqual([]);
    // The handler gives all rights back and leaves with the registers it found: RAX and RCX out of its assist page.
    guest.protect(0xf, frame);
    guest.set({ ...registersOfCaller, rax: 0, rcx: 0 });
    guest.leave(0, 0n);
    expect(guest.finish(access)).not.toBeNull();
    expect(access.result?.fault).toBeNull();
    expect([access.result?.rcx, access.result?.rdx]).toEqual([0x1cn, 0x1dn]);
    if (step.op === 'read') expect(access.result?.rax).toBe(0x55n);
    if (step.op === 'write') expect(guest.peek(0, DATA, 8).getBigUint64(0, true)).toBe(7n);
  });
});
