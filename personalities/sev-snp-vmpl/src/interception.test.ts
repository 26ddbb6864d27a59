import { Arena, type CpuExit, type PlaneContext } from '@vmplanes/engine';
import { X86 } from '@vmplanes/x86';
import { beforeEach, describe, expect, it } from 'vitest';
import { FeaturesChapter } from './features.ts';
import { contributeIntercepted, INTERCEPTED } from './intercepted-instructions.ts';
import { Interception } from './interception.ts';
import { defaultOptions, type SnpOptions } from './options.ts';
import type { SnpContext, SnpPlane } from './ports.ts';

const BASE = 0x1000;
type Run = (context: PlaneContext) => CpuExit | null;
type Marked = { readonly bit: number; readonly areOpen: boolean; readonly isPrivate: (context: PlaneContext, gpa: number, marked: boolean) => boolean };

class Fake {
  readonly arena = new Arena(new ArrayBuffer(0x8000));
  readonly log: unknown[] = [];
  readonly runs = new Map<string, Run>();
  leaf: { first: number; last: number; apply: (leaf: number, subleaf: number, out: Uint32Array) => void } | null = null;
  sides: Marked | null = null;
  ok = 'ok';
  moved = 'resume';
  readonly context: PlaneContext;
  readonly plane: SnpPlane;
  readonly features: FeaturesChapter;
  readonly interception: Interception;

  constructor(options: Partial<SnpOptions> = {}, plane = 2, maxPlanes = 4) {
    const all = { ...defaultOptions, ...options };
    const note = (name: string) => (...args: unknown[]) => {
      this.log.push([name, ...args]);
      return name;
    };
    const replies = { resume: () => ({ kind: 'resume' }), fault: (code: number, error: number) => ['fault', code, error], exit: (...a: unknown[]) => ['exit', ...a], switchTo: (...a: unknown[]) => ['switch', ...a] };
    this.context = { base: BASE, plane, mask: 1 << plane, instructionLength: 3, vp: { existing: 0b111, replies } } as object as PlaneContext;
    this.plane = { context: this.context, featuresLo: 1, featuresHi: 0, virtualTom: 0, ghcbMsrLo: 0x11, ghcbMsrHi: 0x22 } as SnpPlane;
    const chapters = {
      switching: { planeOf: () => this.plane },
      vmsas: { store: (_plane: unknown, ...words: unknown[]) => void this.log.push(['store', ...words]) },
      injection: { raiseVc: (_plane: unknown, code: number) => ['vc', code] },
    };
    const registers = {
      overlays: { claim: (claim: never) => void (this.leaf = claim) },
      setEdxEax: (_context: unknown, lo: number, hi: number) => void this.log.push(['edx:eax', lo, hi]),
      msr: () => 'the processor',
      writeMsr: (_context: unknown, index: number, value: bigint, host: boolean) => {
        this.log.push(['wrmsr', index, value, host]);
        return this.ok;
      },
      readMsr: () => 0x1234_5678_9abc_def0n,
      move: () => ({ kind: this.moved }),
    };
    const arch = { registers, setSides: (s: Marked) => void (this.sides = s), retire: note('retire'), contribute: ({ mnemonic, run }: { mnemonic: string; run: Run }) => void this.runs.set(mnemonic, run), injectFault: (_c: unknown, fault: unknown) => void this.log.push(['inject', fault]) };
    const snp = { level: all.level, options: all, arch, chapters, machine: { arena: this.arena, options: { ticksPerSecond: 2_500_999_999, maxPlanes } } } as object as SnpContext;
    this.features = new FeaturesChapter(snp);
    (chapters as { features?: unknown }).features = this.features;
    this.interception = new Interception(snp);
    contributeIntercepted(snp);
  }
  exit(exit: object): unknown {
    this.log.length = 0;
    return this.interception.handle(this.plane, exit as CpuExit);
  }
  msr(key: number, write = false, lo = 0, hi = 0): unknown {
    this.log.length = 0;
    const answer = this.features.msr(this.plane, { kind: 'msr', key, write, lo, hi } as never);
    return answer === null ? null : [answer, ...this.log];
  }
  put(name: 'cpl' | 'cr4' | 'rax' | 'rcx' | 'dr7' | 'tscAux' | 'efer', value: number): void {
    this.arena.u32[(BASE + X86[name]) >>> 2] = value;
  }
  word(name: 'rax' | 'rcx' | 'efer', half = 0): number {
    return this.arena.u32[(BASE + X86[name] + half) >>> 2]!;
  }
  run(name: string): unknown {
    this.log.length = 0;
    const exit = this.runs.get(name)!(this.context);
    return exit === null ? this.log.slice() : exit.key;
  }
}

const done = { kind: 'resume' };
const gp = ['fault', 13, 0];
let f: Fake;
beforeEach(() => {
  f = new Fake();
});

describe('SEV_FEATURES (APM vol. 2, 15.34.10)', () => {
  it.each([
    [1, 0, null], [1, 1, /reserved/], [1 | (1 << 17), 0, /reserved/], [(1 << 31) | 1, 0, /reserved/], [0, 0, /SNP active/], [0x13ff & ~8, 0, /not allowed|reserved/], [1 | 8, 0, null], [1 | 16, 0, null], [1 | 24, 0, /restricted and alternate/], [1 | (1 << 10), 0, /not allowed/], [1 | (1 << 16), 0, /not allowed/],
    [0x3ef & ~16, 0, null],
  ])('%i, upper half %i: %s', (lo, hi, why) => {
    const said = f.features.refuses(lo, hi);
    if (why === null) expect(said).toBe(null);
    else expect(said).toMatch(why);
  });
  it('at SEV-ES those of SNP are not compared, and SNP is not active', () => {
    const es = new Fake({ level: 'sev-es', allowed: ['DebugSwap'] });
    expect([es.features.refuses(32, 0), es.features.refuses(2, 0), es.features.refuses(0, 0)]).toEqual([null, null, null]);
    expect([es.features.refuses(64, 0), es.features.refuses(1, 0)]).toEqual([expect.stringMatching(/not allowed/), expect.stringMatching(/SNP active/)]);
    expect([es.features.machineLo, es.features.machineHi, new Fake({ features: ['DebugSwap', 'SecureTsc'] }).features.machineLo]).toEqual([0, 0, 0x221]);
  });
  it('count for the VMPL whose save area has them, from SEV-ES on', () => {
    f.plane.featuresLo = 0x221;
    expect([0, 5, 9, 1, 3].map((bit) => f.features.has(f.plane, bit))).toEqual([true, true, true, false, false]);
    const sev = new Fake({ level: 'sev' });
    expect(sev.features.has(sev.plane, 0)).toBe(false);
  });
  it('the page-table bit says private; with vTOM the address does (APM vol. 2, 15.36.8)', () => {
    const { bit, areOpen, isPrivate } = f.sides!;
    expect([bit, areOpen, isPrivate(f.context, 0, true), isPrivate(f.context, 0, false)]).toEqual([51, false, true, false]);
    f.plane.featuresLo = 3;
    f.plane.virtualTom = 0x1000;
    expect([isPrivate(f.context, 0xfff, false), isPrivate(f.context, 0x1000, true)]).toEqual([true, false]);
    expect([new Fake({ level: 'sev-es' }).sides!.areOpen, new Fake({ level: 'sev', cBit: 47 }).sides!.bit]).toEqual([true, 47]);
  });
  it.each([
    [{}, 0x0804_f7fa, 51 | (1 << 6) | (4 << 12)],
    [{ allowed: [] }, 0x0800_067a, 51 | (1 << 6) | (4 << 12)],
    [{ level: 'sev-es' }, 0x0800_c60a, 51 | (1 << 6)],
    [{ level: 'sev' }, 0x402, 51 | (1 << 6)],
    [{ cBit: 47, physicalReduction: 5, allowed: ['VmplSss'] }, 0x0800_06fa, 47 | (5 << 6) | (4 << 12)],
    [{ allowed: ['SecureTsc'] }, 0x0800_077a, 51 | (1 << 6) | (4 << 12)],
    [{ allowed: ['VirtualTom'] }, 0x0804_067a, 51 | (1 << 6) | (4 << 12)],
  ] as const)('CPUID leaf 0x8000001F with %j (APM vol. 3, E.4.17)', (options, eax, ebx) => {
    const fake = new Fake(options as never);
    const out = new Uint32Array(4).fill(9);
    fake.leaf!.apply(0x8000_001f, 0, out);
    expect([fake.leaf!.first, fake.leaf!.last, out[0], out[1], out[2], out[3]]).toEqual([0x8000_001f, 0x8000_001f, eax, ebx, 0, 0]);
  });
  it('VMPLs in the leaf are those of the machine', () => expect([new Fake({}, 0, 2).features.leaf.ebx >>> 12, new Fake({}, 0, 9).features.leaf.ebx >>> 12]).toEqual([2, 4]));
  it('its state is that of a machine with the same features', () => {
    f.features.restore(f.features.save());
    expect(f.features.save()).toEqual({ machineLo: 1 });
    expect(() => f.features.restore({ machineLo: 3 })).toThrow(/other SEV features/);
  });
});

describe('MSRs', () => {
  it('the GHCB MSR is this VMPL\'s', () => {
    expect(f.msr(0xc001_0130)).toEqual([done, ['edx:eax', 0x11, 0x22]]);
    expect(f.msr(0xc001_0130, true, -1, -2)).toEqual([done]);
    expect([f.plane.ghcbMsrLo, f.plane.ghcbMsrHi]).toEqual([0xffff_ffff, 0xffff_fffe]);
    expect(new Fake({ level: 'sev' }).msr(0xc001_0130)).toEqual([gp]);
  });
  it('SEV_STATUS: three levels, and the features two bits higher (APM vol. 2, 15.34.10)', () => {
    f.plane.featuresLo = 0xc000_0221 | 0;
    f.plane.featuresHi = 1;
    expect(f.msr(0xc001_0131)).toEqual([done, ['edx:eax', 0x887, 7]]);
    expect(f.msr(0xc001_0131, true)).toEqual([gp]);
    expect(new Fake({ level: 'sev' }).msr(0xc001_0131)).toEqual([done, ['edx:eax', 1, 0]]);
  });
  it('VIRTUAL_TOM is read only, and of SNP', () => {
    f.plane.virtualTom = 0x12_8765_4000;
    expect([f.msr(0xc001_0135), f.msr(0xc001_0135, true), new Fake({ level: 'sev-es' }).msr(0xc001_0135)]).toEqual([[done, ['edx:eax', 0x8765_4000, 0x12]], [gp], null]);
  });
  it('the wake-up ICR reads as zero, writes change nothing', () => {
    expect([f.msr(0xc001_0137), f.msr(0xc001_0137, true, 5), new Fake({ level: 'sev-es' }).msr(0xc001_0137)]).toEqual([[done, ['edx:eax', 0, 0]], [done], null]);
  });
  it('frequency and counter belong to the guest with Secure TSC (APM vol. 2, 15.36.18)', () => {
    expect([f.msr(0xc001_0134), f.msr(0x10), f.msr(0x123)]).toEqual([null, null, null]);
    f.plane.featuresLo = 0x201;
    expect([f.msr(0xc001_0134), f.msr(0xc001_0134, true), f.msr(0x10), f.msr(0x10, true)]).toEqual([[done, ['edx:eax', 2500, 0]], [gp], ['the processor'], [gp]]);
  });
});

describe('events of an encrypted guest (APM vol. 2, 15.35.4)', () => {
  it.each([
    [{ kind: 'call', key: 3 }, 0x81], [{ kind: 'call', key: INTERCEPTED + 0x6e }, 0x6e], [{ kind: 'cpuid' }, 0x72], [{ kind: 'io', key: 0x3f8, size: 1, write: true }, 0x7b], [{ kind: 'mmio', key: 0x5000, write: false }, 0x400],
    [{ kind: 'msr', key: 0x1b, write: false, lo: 0, hi: 0 }, 0x7c], [{ kind: 'register', key: 0x107, write: false }, null],
  ] as const)('%j raises #VC %s', (exit, code) => expect(f.exit(exit)).toEqual(code === null ? null : ['vc', code]));
  it('reflected ones go to the next more privileged VMPL, with what they are about', () => {
    f.plane.featuresLo = 5;
    expect([f.exit({ kind: 'io', key: 0x3f8, size: 2, write: false }), f.log]).toEqual([['switch', 1, 'reflect-vc', 'stopped', 'held'], [['store', 0x7b, 0x3f8_0021, 0, 0, 0]]]);
    expect([f.exit({ kind: 'io', key: 0xcfc, size: 4, write: true }), f.log][1]).toEqual([['store', 0x7b, 0xcfc_0040, 0, 0, 0]]);
    expect([f.exit({ kind: 'mmio', key: 0x3_8000_5000, write: true }), f.log][1]).toEqual([['store', 0x400, 0xf, 0, 0x8000_5000, 3]]);
    expect([f.exit({ kind: 'mmio', key: 0x5000, write: false }), f.log][1]).toEqual([['store', 0x400, 0xd, 0, 0x5000, 0]]);
    expect([f.exit({ kind: 'msr', key: 0x1b, write: true }), f.log][1]).toEqual([['store', 0x7c, 1, 0, 0, 0]]);
    expect([f.exit({ kind: 'msr', key: 0x1b, write: false }), f.log][1]).toEqual([['store', 0x7c, 0, 0, 0, 0]]);
    expect([f.exit({ kind: 'halt' }), f.log]).toEqual([['switch', 1, 'reflect-vc', 'stopped', 'held'], [['store', 0x78, 0, 0, 0, 0]]]);
    const top = new Fake({}, 0);
    top.plane.featuresLo = 5;
    expect(top.exit({ kind: 'cpuid' })).toEqual(['exit', { kind: 'reflectedVc', code: 0x72, info1: 0, info2: 0 }, { owner: 'sev-snp-vmpl', kind: 'refused', data: {}, reply: null }]);
    expect([top.exit({ kind: 'halt' }), top.log]).toEqual([null, [['store', 0x78, 0, 0, 0, 0]]]);
  });
  it.each([['halt', 0x78], ['shutdown', 0x7f], ['busLock', 0xa5]] as const)('%s exits at once with %i', (kind, code) => {
    expect([f.exit({ kind }), f.log.at(-1)]).toEqual([null, ['store', code, 0, 0, 0, 0]]);
    expect(f.log.some((l) => (l as unknown[])[0] === 'retire')).toBe(kind === 'busLock');
    expect(f.context.instructionLength).toBe(kind === 'busLock' ? 0 : 3);
  });
  it('PAUSE exits and goes on; what is not known is the processor\'s', () => {
    expect([f.exit({ kind: 'call', key: INTERCEPTED + 0x77 }), f.log.slice(), f.exit({ kind: 'memoryFault' })]).toEqual([done, [['store', 0x77, 0, 0, 0, 0]], null]);
  });
  it('debug exceptions are the guest\'s with debug swap only', () => {
    expect(f.exit({ kind: 'debug' })).toEqual(['vc', 0x41]);
    f.plane.featuresLo = 0x21;
    expect(f.exit({ kind: 'debug' })).toBe(null);
  });
  it('a write of EFER is done but for SVME, then exits', () => {
    f.put('efer', 0x1500);
    expect([f.exit({ kind: 'msr', key: 0xc000_0080, write: true, lo: 0x1d01 | 0, hi: 0 }), f.log]).toEqual([done, [['wrmsr', 0xc000_0080, 0xd01n, false], ['retire', f.context], ['store', 0x8f, 0x1500, 0, 0, 0]]]);
    f.ok = 'fault';
    expect([f.exit({ kind: 'msr', key: 0xc000_0080, write: true, lo: 1, hi: 2 }), f.log]).toEqual([gp, [['wrmsr', 0xc000_0080, 0x2_0000_0001n, false]]]);
  });
});

describe('instructions that a host intercepts (APM vol. 2, 15.35.4)', () => {
  const refused = [['inject', { code: 13, errorCode: 0, addressLo: 0, addressHi: 0 }]];
  it.each([['rdpmc', 0x6f], ['invd', 0x76], ['wbinvd', 0x89], ['monitor', 0x8a], ['mwait', 0x8b], ['mov rax, dr7', 0x27]])('%s always: %i', (name, code) => expect(f.run(name)).toBe(0x1000 + code));
  it.each([['rdtsc', 0x6e], ['rdtscp', 0x87], ['pause', 0x77]] as const)('%s where it is chosen: %i', (name, code) => {
    expect(new Fake({ intercepts: [name] }).run(name)).toBe(0x1000 + code);
    expect(f.run(name)).toEqual(name === 'pause' ? [] : [['edx:eax', 0x9abc_def0, 0x1234_5678]]);
    const secure = new Fake({ intercepts: [name] });
    secure.plane.featuresLo = 0x201;
    expect(secure.run(name)).toEqual(name === 'pause' ? 0x1077 : [['edx:eax', 0x9abc_def0, 0x1234_5678]]);
  });
  it('RDTSCP also gives TSC_AUX, RDTSC leaves RCX', () => {
    f.put('tscAux', 0x8765_4321);
    f.put('rcx', 5);
    f.arena.u32[(BASE + X86.rcx + 4) >>> 2] = 6;
    f.run('rdtsc');
    expect([f.word('rcx'), f.word('rcx', 4)]).toEqual([5, 6]);
    f.run('rdtscp');
    expect([f.word('rcx'), f.word('rcx', 4)]).toEqual([0x8765_4321, 0]);
  });
  it.each(['invd', 'wbinvd', 'monitor', 'mwait', 'mov rax, dr7'])('%s is not for programs', (name) => {
    f.put('cpl', 3);
    expect(f.run(name)).toEqual(refused);
  });
  it('programs have RDTSC unless CR4.TSD, RDPMC with CR4.PCE', () => {
    f.put('cpl', 3);
    expect([f.run('rdtsc'), f.run('rdpmc'), f.run('pause')]).toEqual([[['edx:eax', 0x9abc_def0, 0x1234_5678]], refused, []]);
    f.put('cr4', 4 | 0x100);
    expect([f.run('rdtsc'), f.run('rdtscp'), f.run('rdpmc')]).toEqual([refused, refused, 0x106f]);
    f.put('cr4', ~(4 | 0x100));
    expect([f.run('rdtsc'), f.run('rdpmc')]).toEqual([[['edx:eax', 0x9abc_def0, 0x1234_5678]], refused]);
  });
  it('with debug swap DR7 is read inside, both halves', () => {
    f.plane.featuresLo = 0x21;
    f.put('dr7', 0x455);
    f.arena.u32[(BASE + X86.dr7 + 4) >>> 2] = 7;
    expect([f.run('mov rax, dr7'), f.word('rax'), f.word('rax', 4)]).toEqual([[], 0x455, 7]);
  });
  it('none under SEV alone', () => expect(new Fake({ level: 'sev' }).runs.size).toBe(0));
});
