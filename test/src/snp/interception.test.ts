import { EXIT_CODES } from '@vmplanes/abi-sev-snp';
import type { Step } from '@vmplanes/x86';
import { describe, expect, it } from 'vitest';
import { Rig, type RigOptions } from './rig.ts';

const vc = (errorCode: number): object => ({ fault: { vector: 29, errorCode }, exit: null });
const DONE = { fault: null, exit: null };

/** Events that need the guest's help, with the exit code that #VC carries. @spec APM vol. 2, Table 15-35 */
const nae: readonly (readonly [name: string, step: Step, code: number])[] = [
  ['MOV from DR7', { op: 'instruction', name: 'mov rax, dr7' }, 0x27],
  ['MOV to DR7', { op: 'mov', to: 'dr7', value: 0x400 }, 0x37],
  ['RDPMC', { op: 'instruction', name: 'rdpmc' }, 0x6f],
  ['CPUID', { op: 'cpuid', leaf: 0 }, 0x72],
  ['INVD', { op: 'instruction', name: 'invd' }, 0x76],
  ['IN', { op: 'in', port: 0x60 }, 0x7b],
  ['OUT', { op: 'out', port: 0x60, value: 1 }, 0x7b],
  ['RDMSR of the APIC base', { op: 'rdmsr', index: 0x1b }, 0x7c],
  ['WRMSR of the APIC base', { op: 'wrmsr', index: 0x1b, value: 0xfee0_0900 }, 0x7c],
  ['RDMSR of an MSR that does not exist', { op: 'rdmsr', index: 0x1234_5678 }, 0x7c],
  ['VMMCALL', { op: 'call', via: 'vmmcall' }, 0x81],
  ['WBINVD', { op: 'instruction', name: 'wbinvd' }, 0x89],
  ['MONITOR', { op: 'instruction', name: 'monitor' }, 0x8a],
  ['MWAIT', { op: 'instruction', name: 'mwait' }, 0x8b],
  ['a read where there is no memory', { op: 'read', gpa: 0xfec0_0000, size: 4 }, 0x400],
  ['a write where there is no memory', { op: 'write', gpa: 0xfec0_0000, size: 4, value: 1 }, 0x400],
];

describe.each(['sev-es', 'sev-snp'] as const)('at level %s', (level) => {
  it.each(nae)('%s raises #VC in the guest, at the instruction and without an exit', (_name, step, code) => {
    const rig = new Rig({ level });
    const rip = rig.get('rip');
    expect(rig.step(0, step)).toMatchObject(vc(code));
    expect(rig.get('rip')).toBe(rip);
    expect(rig.stored).toEqual([]);
  });
  it('every code that raises #VC is in the table of exit codes as such', () => expect(nae.filter(([, , code]) => EXIT_CODES.find((r) => r.code === code)?.exits === 'ae')).toEqual([]));

  it('HLT exits by itself: 0x78', () => {
    const rig = new Rig({ level });
    rig.step(0, { op: 'hlt' });
    expect(rig.stored.at(-1)).toMatchObject({ code: 0x78 });
  });
  it('a shutdown exits by itself: 0x7F', () => {
    const rig = new Rig({ level });
    expect(rig.step(0, { op: 'shutdown' })).toMatchObject({ exit: { kind: 'shutdown' } });
    expect(rig.stored).toMatchObject([{ code: 0x7f }]);
  });
  it('a bus lock exits by itself: 0xA5', () => {
    const rig = new Rig({ level });
    rig.step(0, { op: 'busLock' });
    expect(rig.stored).toMatchObject([{ code: 0xa5 }]);
  });
  it('VMGEXIT exits by itself, behind the instruction: 0x403', () => {
    const rig = new Rig({ level });
    const rip = rig.get('rip');
    expect(rig.step(0, { op: 'call', via: 'vmgexit' })).toMatchObject(DONE);
    expect(rig.stored).toMatchObject([{ code: 0x403 }]);
    expect(rig.get('rip')).toBe(rip + 1n);
  });
  it('writes of control registers and EFER are done, and then exit: traps 0x90, 0x94, 0x98, 0x8F', () => {
    const rig = new Rig({ level });
    const rip = rig.get('rip');
    rig.step(0, { op: 'mov', to: 'cr0', value: 0x8005_0033 });
    rig.step(0, { op: 'mov', to: 'cr4', value: 0x6a0 });
    rig.step(0, { op: 'mov', to: 'cr8', value: 5 });
    rig.step(0, { op: 'wrmsr', index: 0xc000_0080, value: 0xd01 });
    expect(rig.stored.map(({ code, info1Lo }) => [code, info1Lo])).toEqual([[0x90, 0x8005_0033], [0x94, 0x6a0], [0x98, 5], [0x8f, 0x1d01]]);
    expect(rig.get('cr4')).toBe(0x6a0n);
    expect(rig.get('rip')).toBe(rip + 4n);
  });
  it('a write of a control register that is not legal is #GP(0) and no exit', () => {
    const rig = new Rig({ level });
    expect(rig.step(0, { op: 'mov', to: 'cr0', value: 0x8000_0000 })).toMatchObject({ fault: { vector: 13, errorCode: 0 } });
    expect(rig.stored).toEqual([]);
  });
  it('a write of EFER leaves SVME as it is, and a read shows it', () => {
    const rig = new Rig({ level });
    expect(rig.step(0, { op: 'wrmsr', index: 0xc000_0080, value: 0xd01 })).toMatchObject(DONE);
    rig.step(0, { op: 'rdmsr', index: 0xc000_0080 });
    expect(rig.get('rax')).toBe(0x1d01n);
  });
  it.each([
    ['CR3', { op: 'mov', to: 'cr3', value: 0x70_0000n | (2n ** 51n) }],
    ['XCR0', { op: 'mov', to: 'xcr0', value: 3 }],
    ['PAT', { op: 'wrmsr', index: 0x277, value: 0x7040600070406n }],
    ['LSTAR', { op: 'rdmsr', index: 0xc000_0082 }],
    ['kernel GS base', { op: 'wrmsr', index: 0xc000_0102, value: 5 }],
    ['TSC_AUX', { op: 'wrmsr', index: 0xc000_0103, value: 5 }],
  ] as readonly (readonly [string, Step])[])('%s does not leave the guest', (_name, step) => {
    const rig = new Rig({ level });
    expect(rig.step(0, step)).toMatchObject(DONE);
    expect(rig.stored).toEqual([]);
  });

  it('RDTSC is read in the guest unless the host asks for it', () => {
    expect(new Rig({ level }).step(0, { op: 'instruction', name: 'rdtsc' })).toMatchObject(DONE);
    expect(new Rig({ level, intercepts: ['rdtsc'] }).step(0, { op: 'instruction', name: 'rdtsc' })).toMatchObject(vc(0x6e));
    expect(new Rig({ level, intercepts: ['rdtscp'] }).step(0, { op: 'instruction', name: 'rdtscp' })).toMatchObject(vc(0x87));
  });
  it('PAUSE exits by itself where the host asks for it: 0x77', () => {
    const rig = new Rig({ level, intercepts: ['pause'] });
    expect(rig.step(0, { op: 'instruction', name: 'pause' })).toMatchObject(DONE);
    expect(rig.stored).toMatchObject([{ code: 0x77 }]);
  });
  it.each(['invd', 'wbinvd', 'monitor', 'mwait', 'rdpmc', 'mov rax, dr7'])('%s is #GP(0) for a program, which comes before the interception', (name) => {
    const rig = new Rig({ level });
    rig.set('cpl', 3n);
    expect(rig.step(0, { op: 'instruction', name })).toMatchObject({ fault: { vector: 13, errorCode: 0 } });
  });
});

describe('debug swap', () => {
  // @spec APM vol. 2, 15.35.2
  it.each(['sev-es', 'sev-snp'] as const)('at level %s lets DR7 be read and written in the guest', (level) => {
    const rig = new Rig({ level, features: ['DebugSwap'] });
    expect(rig.step(0, { op: 'mov', to: 'dr7', value: 0x455 })).toMatchObject(DONE);
    expect(rig.step(0, { op: 'instruction', name: 'mov rax, dr7' })).toMatchObject({ ...DONE, eax: 0x455 });
  });
});

describe('Reflect #VC', () => {
  // @spec APM vol. 2, 15.36.9
  const options: RigOptions = { features: ['ReflectVc'] };
  it.each(nae)('%s exits to the next more privileged VMPL, with code and no #VC', (_name, step, code) => {
    const rig = new Rig(options);
    const rip = rig.get('rip', 2);
    rig.plane(1).featuresLo = rig.plane(0).featuresLo = 1;
    expect(rig.step(2, step)).toMatchObject(DONE);
    expect(rig.machine.vp(0).current).toBe(1);
    expect(rig.stored).toMatchObject([{ vmpl: 2, code }]);
    expect(rig.get('rip', 2)).toBe(rip);
  });
  it('HLT exits there, too, behind the instruction', () => {
    const rig = new Rig(options);
    rig.plane(0).featuresLo = 1;
    const rip = rig.get('rip', 1);
    rig.step(1, { op: 'hlt' });
    expect(rig.stored[0]).toMatchObject({ vmpl: 1, code: 0x78 });
    expect(rig.machine.vp(0).current).toBe(0);
    expect(rig.get('rip', 1)).toBe(rip + 1n);
  });
  it('at VMPL0 the VMM is told, and the instruction runs again after its reply', () => {
    const rig = new Rig(options);
    expect(rig.step(0, { op: 'cpuid', leaf: 0 })).toMatchObject({ exit: { kind: 'reflectedVc', code: 0x72 } });
    rig.machine.reply(rig.context(0), {});
    rig.plane(0).featuresLo = 1;
    expect(rig.step(0, { op: 'cpuid', leaf: 0 })).toMatchObject(vc(0x72));
  });
  it('gives IN and OUT the information of the intercept', () => {
    const rig = new Rig(options);
    rig.step(1, { op: 'in', port: 0x3f8, size: 2 });
    rig.step(1, { op: 'out', port: 0x70, size: 1, value: 0 });
    expect(rig.stored.map((s) => s.info1Lo)).toEqual([0x03f8_0021, 0x0070_0010]);
  });
});

describe('at level sev', () => {
  it.each([['CPUID', { op: 'cpuid', leaf: 0 }], ['an MSR', { op: 'rdmsr', index: 0x1b }], ['DR7', { op: 'mov', to: 'dr7', value: 0x400 }]] as readonly (readonly [string, Step])[])('%s is as in any guest', (_name, step) => expect(new Rig({ level: 'sev' }).step(0, step)).toMatchObject(DONE));
  it('I/O exits to the VMM', () => expect(new Rig({ level: 'sev' }).step(0, { op: 'in', port: 0x60 })).toMatchObject({ exit: { kind: 'io', port: 0x60 } }));
  it('VMGEXIT is VMMCALL with a prefix that means nothing: #UD where nobody serves calls', () => expect(new Rig({ level: 'sev' }).step(0, { op: 'call', via: 'vmgexit' })).toMatchObject({ fault: { vector: 6 } }));
});
