import { AccessResult, Activity, type PlaneContext, Right } from '@vmplanes/engine';
import { CallKind, MsrFilter, type MsrFilterDeclaration, type Step, type StepResult, X86ExitRecords } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { generator, payloadOf, type Rig, type RigConfig, rigOf, risingPlanes } from './rig.ts';

/** Runs steps on plane 0 of one VP; `reply` answers exits. */
const trial = (steps: readonly Step[], config: Partial<RigConfig> = {}, reply: (payload: never) => Readonly<Record<string, number | boolean>> | null = () => null) => {
  const results: StepResult[] = [];
  const exits: unknown[] = [];
  const rig = rigOf({ guests: [{ 0: generator('trial', function* () { for (const step of steps) results.push(yield step); }) }], ...config });
  for (;;) {
    const stop = rig.run(1000);
    if (stop.kind !== 'exit') break;
    exits.push(payloadOf(stop.vp));
    const answer = reply(stop.vp.exit as never);
    if (answer !== null && stop.vp.context.completion !== null) rig.machine.reply(stop.vp.context, answer);
    if (exits.length > 20) break;
  }
  return { rig, results, exits, faults: results.map((r) => (r.fault === null ? null : r.fault.vector)) };
};
const bytesOf = ({ machine }: Rig, { base }: PlaneContext): Uint8Array => machine.arena.u8.slice(base, base + machine.arch.layout.size);
const withSlot = (rig: Rig): void => void rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 1 << 14 });

describe('exits that nobody claims', () => {
  it.each(['vmcall', 'vmmcall', 'vmgexit'] as const)('%s is #UD without a hypervisor interface (SDM 3C §31.3; APM3 VMMCALL)', (via) => {
    const { results, rig } = trial([{ op: 'call', via }]);
    expect(results[0]!.fault).toEqual({ vector: 6, errorCode: null, address: 0n });
    expect(rig.vps[0]!.statistics.vmExits).toBe(0);
  });

  describe('MSRs', () => {
    it('known: written and read back through EDX:EAX (SDM 2B RDMSR, WRMSR)', () => {
      const { results } = trial([{ op: 'wrmsr', index: 0xc0000102, value: 0x1234_5678_9abcn }, { op: 'rdmsr', index: 0xc0000102, regs: { rax: -1n, rdx: -1n } }]);
      expect(results.map((r) => r.fault)).toEqual([null, null]);
      // RDMSR clears the upper halves of both registers.
      expect([results[1]!.rax, results[1]!.rdx, results[1]!.edxEax]).toEqual([0x5678_9abcn, 0x1234n, 0x1234_5678_9abcn]);
    });
    it('unknown and invalid are #GP(0) by default', () => {
      const { results, exits } = trial([{ op: 'rdmsr', index: 0x12345 }, { op: 'wrmsr', index: 0xc0000080, value: 1n << 40n }]);
      expect(results.map((r) => r.fault)).toEqual([{ vector: 13, errorCode: 0, address: 0n }, { vector: 13, errorCode: 0, address: 0n }]);
      expect(exits).toEqual([]);
    });
    it('unknown, invalid and filtered accesses leave to the VMM where that is asked for (Linux api.rst KVM_EXIT_X86_RDMSR)', () => {
      const declaration: MsrFilterDeclaration = { flags: 0, ranges: [{ flags: 3, base: 0x174, count: 1, bitmap: new Uint8Array(8) }] };
      const results: StepResult[] = [];
      const steps: Step[] = [
        { op: 'rdmsr', index: 0x12345 },
        { op: 'wrmsr', index: 0xc0000080, value: 1n << 40n },
        { op: 'wrmsr', index: 0x174, value: 7 },
        { op: 'rdmsr', index: 0x174 },
        { op: 'rdmsr', index: 0x174 },
      ];
      const rig = rigOf({ x86: { unknownMsr: 'exit', invalidMsr: 'exit' }, guests: [{ 0: generator('m', function* () { for (const step of steps) results.push(yield step); }) }] });
      rig.arch.registers.setFilter(MsrFilter.create(declaration) as MsrFilter);
      const seen: unknown[] = [];
      const replies = [{ lo: 1, hi: 2 }, { error: false }, { error: true }, { lo: 9, hi: 0 }, { error: true }];
      for (const reply of replies) {
        expect(rig.kind()).toBe('exit');
        seen.push(payloadOf(rig.vps[0]!));
        rig.machine.reply(rig.vps[0]!.context, reply);
      }
      expect(rig.kind()).toBe('idle');
      expect(seen).toEqual([
        { kind: 'msr', write: false, index: 0x12345, lo: 0, hi: 0, reason: 'unknown' },
        { kind: 'msr', write: true, index: 0xc0000080, lo: 0, hi: 0x100, reason: 'invalid' },
        { kind: 'msr', write: true, index: 0x174, lo: 7, hi: 0, reason: 'filter' },
        { kind: 'msr', write: false, index: 0x174, lo: 0, hi: 0, reason: 'filter' },
        { kind: 'msr', write: false, index: 0x174, lo: 0, hi: 0, reason: 'filter' },
      ]);
      expect(results.map((r) => r.fault?.vector ?? null)).toEqual([null, null, 13, null, 13]);
      expect(results[0]!.edxEax).toBe(0x2_0000_0001n);
      expect(results[3]!.edxEax).toBe(9n);
      expect(rig.get(0, 0, 'sysenterCs')).toBe(0n);
    });
    it('a filtered access is #GP where no such exit is asked for', () => {
      const results: StepResult[] = [];
      const rig = rigOf({ guests: [{ 0: generator('m', function* () { results.push(yield { op: 'rdmsr', index: 0x174 }); }) }] });
      rig.arch.registers.msrExits = { unknown: false, invalid: false, filter: false };
      rig.arch.registers.setFilter(MsrFilter.create({ flags: 0, ranges: [{ flags: 3, base: 0x174, count: 1, bitmap: new Uint8Array(8) }] }) as MsrFilter);
      expect(rig.kind()).toBe('idle');
      expect(results[0]!.fault?.vector).toBe(13);
    });
    it.each([['read', 1, [13, null]], ['written', 2, [null, 13]], ['read or written', 3, [13, 13]], ['touched after the filter is gone', 0, [null, null]]] as const)(
      'of a personality pass the filter first: refused when %s (Linux arch/x86/kvm/x86.c kvm_get_msr_with_filter)', (_what, flags, faults) => {
        const INDEX = 0x4000_0020;
        const asked: string[] = [];
        const results: StepResult[] = [];
        const steps: Step[] = [{ op: 'rdmsr', index: INDEX }, { op: 'wrmsr', index: INDEX, value: 5 }, { op: 'rdmsr', index: INDEX + 1 }];
        const rig = rigOf({
          claims: [{ exit: 'msr', from: 0x4000_0000, to: 0x4000_00ff }],
          on: (c, exit) => {
            asked.push(`${(exit as { readonly write?: boolean }).write === true ? 'write' : 'read'} ${exit.key - INDEX}`);
            return c.vp.replies.resume();
          },
          guests: [{ 0: generator('m', function* () { for (const step of steps) results.push(yield step); }) }],
        });
        rig.arch.registers.msrExits = { unknown: false, invalid: false, filter: false };
        rig.arch.registers.setFilter(MsrFilter.create({ flags: 0, ranges: [{ flags: flags === 0 ? 3 : flags, base: INDEX, count: 1, bitmap: new Uint8Array(8) }] }) as MsrFilter);
        if (flags === 0) rig.arch.registers.setFilter(null);
        expect(rig.kind()).toBe('idle');
        expect(results.map((r) => r.fault?.vector ?? null)).toEqual([...faults, null]);
        expect(asked).toEqual([...(faults[0] === null ? ['read 0'] : []), ...(faults[1] === null ? ['write 0'] : []), 'read 1']);
      });
    it('of a personality: the filter takes its access to the VMM, whose answer the guest gets, and is part of the state', () => {
      const results: StepResult[] = [];
      const config: RigConfig = { claims: [{ exit: 'msr', from: 0x4000_0000, to: 0x4000_00ff }], on: (c) => c.vp.replies.resume(), guests: [{ 0: generator('m', function* () { results.push(yield { op: 'rdmsr', index: 0x4000_0020 }); }) }] };
      const first = rigOf(config);
      first.arch.registers.setFilter(MsrFilter.create({ flags: 0, ranges: [{ flags: 1, base: 0x4000_0020, count: 1, bitmap: new Uint8Array(8) }] }) as MsrFilter);
      const rig = rigOf(config);
      rig.arch.registers.restore(first.arch.registers.save());
      expect(rig.kind()).toBe('exit');
      expect(payloadOf(rig.vps[0]!)).toEqual({ kind: 'msr', write: false, index: 0x4000_0020, lo: 0, hi: 0, reason: 'filter' });
      rig.machine.reply(rig.vps[0]!.context, { lo: 7, hi: 1 });
      expect(rig.kind()).toBe('idle');
      expect(results[0]).toMatchObject({ fault: null, edxEax: 0x1_0000_0007n });
    });
    it('CSTAR is private and reads back the last write in each plane (OpenVMM #1279)', () => {
      const rig = rigOf({ meaning: risingPlanes, claims: [{ exit: 'call', from: 1, to: 1 }], on: (c) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped'), guests: [{ 0: [{ op: 'wrmsr', index: 0xc0000083, value: 0x111 }, { op: 'call' }, { op: 'rdmsr', index: 0xc0000083 }, { op: 'hlt' }], 1: [{ op: 'wrmsr', index: 0xc0000083, value: 0x222 }, { op: 'call' }] }] });
      rig.run(1);
      expect(rig.get(0, 0, 'rax')).toBe(0x111n);
      expect(rig.arch.registers.readMsr(rig.vps[0]!.plane(1), 0xc0000083, true)).toBe(0x222n);
    });
    it('a shared MSR of a stopped plane reads as the value of the VP (TLFS, Virtual Secure Mode: MTRRs are shared)', () => {
      const meaning = { ...risingPlanes, sharing: { shared: ['mtrr'] } };
      const rig = rigOf({ meaning, guests: [{ 0: [{ op: 'wrmsr', index: 0x2ff, value: 0xc06 }, { op: 'hlt' }], 1: [] }] });
      rig.run(1);
      const stopped = rig.vps[0]!.plane(1);
      expect(rig.arch.registers.readMsr(stopped, 0x2ff, true)).toBe(0xc06n);
      expect(rig.arch.registers.writeMsr(stopped, 0x2ff, 0x806n, true)).toBe('ok');
      expect(rig.arch.registers.readMsr(rig.vps[0]!.plane(0), 0x2ff, true)).toBe(0x806n);
    });
  });

  it('CPUID: dynamic bits follow the plane that asks (LKML 20250401 24/29 review: OSXSAVE per plane)', () => {
    const results: [StepResult, StepResult][] = [];
    const guest = (cr4: bigint) => generator(`c${cr4}`, function* () {
      yield { op: 'mov', to: 'cr4', value: cr4 };
      const leaf1 = yield { op: 'cpuid', leaf: 1, regs: { rax: -1n, rbx: -1n, rcx: -1n, rdx: -1n } };
      results.push([leaf1, yield { op: 'cpuid', leaf: 0xd, subleaf: 0 }]);
      yield { op: 'call' };
    });
    const rig = rigOf({ claims: [{ exit: 'call', from: 1, to: 1 }], on: (c) => c.vp.replies.switchTo(1 - c.plane, 'call', 'stopped'), guests: [{ 0: guest(0n), 1: guest(1n << 18n) }] });
    rig.arch.apicOf(rig.vps[0]!.plane(1)).writeApicBase(0xfee00000, 0, true);
    rig.run(1);
    const [zero, one] = results.map(([r]) => r);
    expect([(zero!.rcx >> 27n) & 1n, (one!.rcx >> 27n) & 1n]).toEqual([0n, 1n]);
    // CPUID hides a local APIC that IA32_APIC_BASE disables. @spec SDM 3A §10.4.3
    expect([(zero!.rdx >> 9n) & 1n, (one!.rdx >> 9n) & 1n]).toEqual([1n, 0n]);
    // The upper halves are cleared. @spec SDM 2A CPUID
    expect([zero!.rax >> 32n, zero!.rbx >> 32n, zero!.rcx >> 32n, zero!.rdx >> 32n]).toEqual([0n, 0n, 0n, 0n]);
  });

  describe('ports', () => {
    it.each([[1, 0x11_22_33_44_55_66_77_aan], [2, 0x11_22_33_44_55_66_dd_aan], [4, 0xbb_cc_dd_aan]] as const)('IN of %i bytes leaves or clears the rest of RAX (SDM 1 §3.4.1.1)', (size, rax) => {
      const { results, exits } = trial([{ op: 'in', port: 0x3f8, size, regs: { rax: 0x11_22_33_44_55_66_77_88n } }], {}, () => ({ value: 0xbb_cc_dd_aa }));
      expect(exits).toEqual([{ kind: 'io', write: false, port: 0x3f8, size, value: 0 }]);
      expect(results[0]!.rax).toBe(rax);
    });
    it('OUT is done when it leaves', () => {
      const { exits, rig } = trial([{ op: 'out', port: 0x80, size: 2, value: 0xbeef }, { op: 'mov', to: 'cr8', value: 2 }]);
      expect(exits).toEqual([{ kind: 'io', write: true, port: 0x80, size: 2, value: 0xbeef }]);
      expect(rig.arch.apicOf(rig.vps[0]!.context).cr8).toBe(2);
    });
  });

  describe('memory-mapped I/O', () => {
    it.each([[1, 0xffff_ffff_ffff_ff11n], [2, 0xffff_ffff_ffff_2211n], [4, 0x4433_2211n], [8, 0x8877_6655_4433_2211n]] as const)('a read of %i bytes takes the reply', (size, rax) => {
      const { results, exits } = trial([{ op: 'read', gpa: 0x4000_0000, size, regs: { rax: -1n } }], {}, () => ({ lo: 0x4433_2211, hi: 0x8877_6655 }));
      expect(exits).toEqual([{ kind: 'mmio', write: false, gpa: 0x4000_0000, size, lo: 0, hi: 0 }]);
      expect(results[0]!.rax).toBe(rax);
    });
    it.each([1, 2, 4, 8] as const)('memory and devices fill RAX alike: %i bytes', (size) => {
      const at: bigint[] = [];
      const rig = rigOf({ guests: [{ 0: generator('g', function* () {
        yield { op: 'write', gpa: 0x100, value: 0x8877_6655_4433_2211n };
        at.push((yield { op: 'read', gpa: 0x100, size, regs: { rax: -1n } }).rax);
        at.push((yield { op: 'read', gpa: 0x4000_0000, size, regs: { rax: -1n } }).rax);
      }) }] });
      withSlot(rig);
      expect(rig.kind()).toBe('exit');
      rig.machine.reply(rig.vps[0]!.context, { lo: 0x4433_2211, hi: 0x8877_6655 });
      rig.run();
      expect(at[0]).toBe(at[1]);
    });
    it('a write carries its value and is done', () => {
      const { exits } = trial([{ op: 'write', gpa: 0x4000_0008, size: 8, value: 0x1_0000_0002n }]);
      expect(exits).toEqual([{ kind: 'mmio', write: true, gpa: 0x4000_0008, size: 8, lo: 2, hi: 1 }]);
    });
    it('the register page of the own local APIC is served inside; the page of another mode is not there (SDM 3A §10.4.1)', () => {
      const results: StepResult[] = [];
      const rig = rigOf({ guests: [{ 0: generator('g', function* () {
        yield { op: 'write', gpa: 0xfee00080, size: 4, value: 0x40 };
        results.push(yield { op: 'read', gpa: 0xfee00080, size: 4, regs: { rax: -1n } });
        results.push(yield { op: 'apicRead', register: 8 });
        results.push(yield { op: 'read', gpa: 0xfee00080, size: 4 });
      }) }] });
      rig.arch.apicOf(rig.vps[0]!.context).writeApicBase(0xfee00900, 0, true);
      rig.arch.apicOf(rig.vps[0]!.context).writeSvr(0x1ff);
      rig.run(1);
      expect(results.map((r) => r.rax)).toEqual([0x40n, 0x40n, 0x40n]);
      const other = trial([{ op: 'read', gpa: 0xfee00080, size: 4 }], {}, () => ({ lo: 0, hi: 0 }));
      expect(other.exits).toHaveLength(1);
    });
  });

  describe('moves to control registers', () => {
    it.each([['cr0', 0x8000_0000n], ['cr4', 1n << 60n], ['cr8', 16n], ['dr7', 1n << 40n], ['xcr0', 2n]] as const)('an illegal value for %s is #GP(0) and changes nothing', (to, value) => {
      const { results, rig } = trial([{ op: 'mov', to, value }]);
      expect(results[0]!.fault).toEqual({ vector: 13, errorCode: 0, address: 0n });
      if (to !== 'cr8') expect(rig.get(0, 0, to)).toBe(to === 'cr0' ? 0x6000_0010n : to === 'dr7' ? 0x400n : to === 'xcr0' ? 1n : 0n);
    });
    it('paging with LME sets LMA (APM2 §14.6.1); CR8 is the task priority (SDM 3A §10.8.6)', () => {
      const { faults, rig } = trial([{ op: 'mov', to: 'cr4', value: 0x20 }, { op: 'wrmsr', index: 0xc0000080, value: 0x100 }, { op: 'mov', to: 'cr3', value: 0x1000 }, { op: 'mov', to: 'cr0', value: 0x8000_0011n }, { op: 'mov', to: 'cr8', value: 0xe }]);
      expect(faults).toEqual([null, null, null, null, null]);
      expect(rig.get(0, 0, 'efer')).toBe(0x500n);
      expect(rig.arch.apicOf(rig.vps[0]!.context).tpr).toBe(0xe0);
    });
    it('TPR: read-after-write, and only classes above it are delivered (COCONUT-SVSM 4482ac12)', () => {
      const results: StepResult[] = [];
      const taken: number[] = [];
      const rig = rigOf({ guests: [{ 0: generator('g', function* () {
        yield { op: 'apicWrite', register: 8, value: 0x50 };
        results.push(yield { op: 'apicRead', register: 8 });
        yield { op: 'sti' };
        yield { op: 'hlt' };
      }, function* (vector) { taken.push(vector); yield { op: 'eoi' }; }) }] });
      rig.run();
      expect(results[0]!.rax).toBe(0x50n);
      rig.msi(0, 0, 0x41);
      rig.run();
      expect(taken).toEqual([]);
      rig.msi(0, 0, 0x61);
      rig.run();
      expect(taken).toEqual([0x61]);
    });
  });

  it('halt: blocks the VP with nothing to run, RIP is behind the instruction', () => {
    const { rig } = trial([{ op: 'hlt' }]);
    expect(rig.vps[0]!.context.activity).toBe(Activity.Halted);
    expect(rig.vps[0]!.statistics.halts).toBe(1);
    expect(rig.get(0, 0, 'rip')).toBe(0xfff1n);
  });
  it('shutdown leaves to the VMM, every time', () => {
    const rig = rigOf({ guests: [{ 0: [{ op: 'shutdown' }] }] });
    for (let i = 0; i < 3; i++) {
      expect(rig.kind()).toBe('exit');
      expect(payloadOf(rig.vps[0]!)).toEqual({ kind: 'shutdown' });
    }
  });

  describe('memory faults', () => {
    it('a denied access leaves with address, plane, access and missing right (LKML 20240609 15/18, 18/18), and runs again when allowed', () => {
      const rig = rigOf({ guests: [{ 0: [{ op: 'write', gpa: 0x2010, size: 4, value: 5 }, { op: 'read', gpa: 0x2010, size: 4 }, { op: 'hlt' }] }] });
      withSlot(rig);
      rig.machine.memory.permissions[0]!.revoke(2, 1, Right.Write);
      expect(rig.kind()).toBe('exit');
      expect(payloadOf(rig.vps[0]!)).toMatchObject({ kind: 'memoryFault', info: { gpa: 0x2010, plane: 0, access: Right.Write, missing: Right.Write, result: AccessResult.Denied, isWalk: false, hasGva: false, instructionLength: 1 } });
      expect(rig.kind()).toBe('exit');
      rig.machine.memory.permissions[0]!.grant(2, 1, Right.Write);
      expect(rig.kind()).toBe('idle');
      expect(rig.get(0, 0, 'rax')).toBe(5n);
    });
    it('a fetch from nowhere is a fault with the result Absent, not device access', () => {
      const rig = rigOf({ guests: [{ 0: [{ op: 'execute', gpa: 0x4000_0000 }] }] });
      expect(rig.kind()).toBe('exit');
      expect(payloadOf(rig.vps[0]!)).toMatchObject({ kind: 'memoryFault', info: { gpa: 0x4000_0000, result: AccessResult.Absent, access: Right.ExecSupervisor } });
    });
    it.each([[false, Right.ExecSupervisor], [true, Right.ExecUser]])('a fetch needs the execute right of its mode, user %s (OpenVMM #1513)', (user, right) => {
      const rig = rigOf({ guests: [{ 0: [{ op: 'execute', gpa: 0x1000, user }, { op: 'hlt' }] }] });
      withSlot(rig);
      rig.machine.memory.permissions[0]!.revoke(1, 1, right);
      expect(rig.kind()).toBe('exit');
      expect(payloadOf(rig.vps[0]!)).toMatchObject({ info: { access: right, missing: right } });
    });
    it('a claimed fault goes to its claimant, with the plane that was refused', () => {
      const seen: unknown[] = [];
      const rig = rigOf({ claims: [{ exit: 'memoryFault', from: 0, to: 0 }], on: (c, exit) => { seen.push(structuredClone(exit)); return c.vp.replies.fault(29, 0); }, guests: [{ 0: [{ op: 'read', gpa: 0x1000 }] }] });
      withSlot(rig);
      rig.machine.memory.permissions[0]!.set(0, 4, 0);
      expect(rig.kind()).toBe('idle');
      expect(seen).toMatchObject([{ kind: 'memoryFault', info: { plane: 0, gpa: 0x1000 } }]);
    });
  });

  describe('bus locks', () => {
    it('count and go on by default', () => {
      const { rig, exits } = trial([{ op: 'busLock' }, { op: 'busLock' }]);
      expect(rig.vps[0]!.busLocks).toBe(2);
      expect(exits).toEqual([]);
    });
    it('leave to the VMM where asked (Linux api.rst KVM_EXIT_X86_BUS_LOCK)', () => {
      const { exits } = trial([{ op: 'busLock' }, { op: 'work' }, { op: 'busLock' }], { x86: { busLock: { exits: true, perSecond: 0 } } });
      expect(exits).toEqual([{ kind: 'busLock', count: 1 }, { kind: 'busLock', count: 2 }]);
    });
    it('a rate limit spaces them: the first is free, each later one waits for its turn', () => {
      const at: number[] = [];
      const rig = rigOf({ options: { ticksPerSecond: 10_000 }, x86: { busLock: { exits: false, perSecond: 10 } }, guests: [{ 0: generator('g', function* () {
        for (let i = 0; i < 4; i++) {
          yield { op: 'busLock' };
          at.push(rig.machine.timeOf(rig.vps[0]!));
        }
      }) }] });
      expect(rig.kind()).toBe('idle');
      expect(at.slice(1).map((t, i) => t - at[i]!)).toEqual([1000, 1000, 1000]);
    });
  });

  it('interrupt windows and debug events leave to the VMM', () => {
    const rig = rigOf({ guests: [{ 0: [] }] });
    const records = new X86ExitRecords();
    records.debug.dr6 = 0xffff0ff1;
    const context = rig.vps[0]!.context;
    expect(rig.arch.unclaimed(context, records.debug)).toEqual({ kind: 'exit', payload: { kind: 'debug', dr6: 0xffff0ff1 }, completion: null });
    expect(rig.arch.unclaimed(context, records.interruptWindow)).toEqual({ kind: 'exit', payload: { kind: 'interruptWindow' }, completion: null });
    expect(() => rig.arch.unclaimed(context, records.halt)).toThrow(expect.objectContaining({ code: 'Internal' }));
  });

  it('every exit kind can be claimed before the architecture sees it', () => {
    const seen: string[] = [];
    const kinds = ['msr', 'cpuid', 'io', 'mmio', 'register', 'busLock', 'shutdown', 'call'];
    const rig = rigOf({
      claims: kinds.map((exit) => ({ exit, from: 0, to: Number.MAX_SAFE_INTEGER })),
      on: (c, exit) => { seen.push(`${exit.kind} ${exit.key}`); return c.vp.replies.resume(); },
      guests: [{ 0: [{ op: 'rdmsr', index: 0x10 }, { op: 'cpuid', leaf: 7 }, { op: 'in', port: 9 }, { op: 'read', gpa: 0x5000_0000 }, { op: 'mov', to: 'cr3', value: 0 }, { op: 'busLock' }, { op: 'shutdown' }, { op: 'call', via: 'vmgexit' }] }],
    });
    expect(rig.kind()).toBe('idle');
    expect(seen).toEqual(['msr 16', 'cpuid 7', 'io 9', `mmio ${0x5000_0000}`, 'register 3', 'busLock 0', 'shutdown 0', `call ${CallKind.Vmgexit}`]);
  });
});

describe('reset of a plane', () => {
  it('at power-on equals a fresh plane, whatever plane of whatever VP (OpenVMM #3984, #4179)', () => {
    for (const vp of [0, 1]) {
      for (const plane of [0, 1]) {
        const rig = rigOf({ options: { maxVps: 2 }, guests: [{ 0: [{ op: 'hlt' }], 1: [] }, { 0: [{ op: 'hlt' }], 1: [] }] });
        const fresh = rigOf({ options: { maxVps: 2 }, guests: [{ 0: [], 1: [] }, { 0: [], 1: [] }] });
        const context = rig.vps[vp]!.plane(plane);
        rig.machine.memory.addSlot({ id: 0, gpa: 0, size: 4096 });
        rig.msi(vp, plane, 0x61);
        rig.nmi(vp, plane);
        rig.set(vp, plane, 'cr4', 0x20n);
        rig.set(vp, plane, 'nmi.blocked', 1n);
        rig.arch.apicOf(context).setTpr(0x30);
        rig.machine.resetPlane(context, 'powerOn');
        const created = fresh.machine.vp(vp).plane(plane);
        expect(bytesOf(rig, context)).toEqual(bytesOf(fresh, created));
        expect(rig.arch.apicOf(context).latches.isWaitingForSipi).toBe(vp !== 0 && plane === 0);
        expect([context.activity, context.edges, context.events.deliverable(), context.vp.pending & context.mask]).toEqual([vp !== 0 && plane === 0 ? Activity.WaitForSipi : Activity.Running, 0, false, 0]);
        const b = context.events.balance();
        expect(b.accepted).toBe(b.delivered + b.merged + b.pending + b.discarded);
        expect(b.discarded).toBe(2);
      }
    }
  });
  it('INIT makes an application processor wait for its start-up message, which then starts it (SDM 3A §8.4.2)', () => {
    const rig = rigOf({ options: { maxVps: 2 }, guests: [{ 0: [] }, { 0: [{ op: 'hlt' }] }] });
    const context = rig.vps[1]!.context;
    rig.machine.resetPlane(context, 'init');
    expect(context.activity).toBe(Activity.WaitForSipi);
    expect(rig.kind()).toBe('idle');
    expect(rig.arch.fabric.deliver(1, 0, 6, 0x9f, true, false)).toBe(1);
    rig.run();
    expect([rig.get(1, 0, 'cs.selector'), rig.get(1, 0, 'cs.base')]).toEqual([0x9f00n, 0x9f000n]);
    expect(rig.get(1, 0, 'rip')).toBe(1n);
    expect(context.activity).toBe(Activity.Halted);
  });
});
