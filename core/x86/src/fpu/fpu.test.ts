import { Arena } from '@vmplanes/engine';
import { beforeEach, describe, expect, it } from 'vitest';
import { CONTEXT_SIZE, X86 } from '../state/layout.ts';
import { readRegister, writeRegister } from '../state/registers.ts';
import { compactedOffset, compactedSize, standardSize, userXfeatures, Xfeature } from './components.ts';
import { Fx32, Fx32Long, Fx64, loadFxsave, saveFxsave } from './fxsave.ts';
import { loadFpuArea, SaveAreaFpu, saveFpuArea } from './save-area.ts';
import { abridgeTags, fullTags, initX87, isX87Initial, legalizeFcw, legalizeFsw, X87 } from './x87.ts';
import { exportXsave, importXsave, loadXsave, saveXsave, xinuse } from './xsave.ts';

const ALL = userXfeatures;
const FPU_END = X86.mtrrDefType;
const base = CONTEXT_SIZE;
let arena: Arena;
beforeEach(() => {
  arena = new Arena(new ArrayBuffer(2 * CONTEXT_SIZE));
  initX87(arena, base);
  writeRegister(arena, base, 'mxcsr', 0x1f80n);
  writeRegister(arena, base, 'mxcsrMask', 0xffffn);
});

/** Fills the floating-point cells with legal values that differ from byte to byte. */
function fill(): void {
  for (let at = X86.xmm0; at < FPU_END; at++) arena.u8[base + at] = at * 7 + 1;
  for (let i = 0; i < 8; i++) for (let b = 0; b < 10; b++) arena.u8[base + X86.st0 + 16 * i + b] = 0x80 + 10 * i + b;
  writeRegister(arena, base, 'x87.environment', 0x0123_00ff_3800_037fn);
  writeRegister(arena, base, 'x87.rip', 0x1122_3344_5566n);
  writeRegister(arena, base, 'x87.dp', 0x7788_99aa_bbccn);
  writeRegister(arena, base, 'mxcsr', 0x5fa1n);
  writeRegister(arena, base, 'pkru', 0x5555_5555n);
  for (const [i, name] of (['uCet', 'pl3Ssp', 'pl0Ssp', 'pl1Ssp', 'pl2Ssp'] as const).entries()) writeRegister(arena, base, name, BigInt(i + 1) << 40n);
}

const block = (): Uint8Array => arena.u8.slice(base, base + X86.reserved);
const clearFpu = (): void => void arena.u8.fill(0, base + X86['x87.cs'], base + X86.mxcsrMask).fill(0, base + X86.st0, base + FPU_END);

describe('x87 words', () => {
  it.each([[0xffff, 0x00], [0x5555, 0xff], [0x0000, 0xff], [0x3fff, 0x80], [0xfffc, 0x01], [0xaaab, 0xfe]])('abridges tag word %#x to %#x', (full, tags) => {
    expect(abridgeTags(full)).toBe(tags);
  });

  it('classifies register contents, by physical number behind TOP', () => {
    // SDM 1 Table 10-3: exponent, significand, tag. TOP is 3, so ST(i) is physical register (i + 3) mod 8.
    const values: readonly [number, bigint, number][] = [
      [0x3fff, 0x8000_0000_0000_0000n, 0], [0, 0n, 1], [0x7fff, 0x8000_0000_0000_0000n, 2], [0, 1n, 2],
      [0x3fff, 0x7fff_ffff_ffff_ffffn, 2], [0x8000, 0n, 1], [0x7fff, 0xc000_0000_0000_0000n, 2], [0, 0n, 3],
    ];
    writeRegister(arena, base, 'x87.environment', 0x037fn | (3n << 27n) | (BigInt(0xff & ~(1 << 2)) << 32n));
    values.forEach(([exponent, significand], i) => writeRegister(arena, base, `st${i as 0}`, (BigInt(exponent) << 64n) | significand));
    let expected = 0;
    values.forEach(([, , tag], i) => (expected |= tag << (2 * ((i + 3) & 7))));
    expect(fullTags(arena, base)).toBe(expected);
  });

  it('fixes the reserved bits of the control word and derives the summary bits of the status word', () => {
    expect([0, 0xffff, 0x37f].map(legalizeFcw)).toEqual([0x40, 0x1f7f, 0x37f]);
    expect([legalizeFsw(0x8080, 0x37f), legalizeFsw(0x0001, 0x37e), legalizeFsw(0x0041, 0x37f), legalizeFsw(0x3800, 0x340)]).toEqual([0, 0x8081, 0x41, 0x3800]);
  });

  it('knows the initial configuration', () => {
    expect(isX87Initial(arena, base)).toBe(true);
    for (const at of [X86['x87.cs'], X86['x87.ds'], X87.fsw, X87.tags, X87.fop, X86['x87.rip'], X86['x87.dp'], X86.st7 + 9]) {
      arena.u8[base + at] = 1;
      expect(isX87Initial(arena, base)).toBe(false);
      arena.u8[base + at] = 0;
    }
    arena.u8[base + X87.fcw] = 0x7e;
    expect(isX87Initial(arena, base)).toBe(false);
  });
});

describe('FXSAVE images', () => {
  it('come back in the 64-bit form', () => {
    fill();
    const before = block();
    const image = new Uint8Array(512).fill(0xa5);
    saveFxsave(arena, base, image, 0, Fx64);
    expect(image.subarray(416).every((b) => b === 0xa5)).toBe(true);
    arena.u8.fill(0, base + X86.mxcsr, base + X86.mxcsr + 4).fill(0, base + X86.st0, base + X86.ymmHigh0);
    expect(loadFxsave(arena, base, image, 0, Fx64)).toBe('ok');
    expect(block()).toEqual(before);
  });

  it('carry selectors and short offsets in the 32-bit form, and eight registers outside 64-bit mode', () => {
    fill();
    writeRegister(arena, base, 'x87.cs', 0x23n);
    writeRegister(arena, base, 'x87.ds', 0x2bn);
    const image = new Uint8Array(512).fill(0xa5);
    saveFxsave(arena, base, image, 0, Fx32);
    const view = new DataView(image.buffer);
    expect([view.getUint32(8, true), view.getUint32(12, true), view.getUint32(16, true), view.getUint32(20, true)]).toEqual([0x3344_5566, 0x23, 0x99aa_bbcc, 0x2b]);
    expect(image.subarray(288, 416).every((b) => b === 0xa5)).toBe(true);
    const xmm8 = readRegister(arena, base, 'xmm8');
    expect(loadFxsave(arena, base, image, 0, Fx32)).toBe('ok');
    expect([readRegister(arena, base, 'x87.rip'), readRegister(arena, base, 'x87.cs'), readRegister(arena, base, 'x87.ds')]).toEqual([0x3344_5566n, 0x23n, 0x2bn]);
    expect(readRegister(arena, base, 'x87.dp')).toBe(0x99aa_bbccn);
    expect(readRegister(arena, base, 'xmm8')).toBe(xmm8);
    expect(loadFxsave(arena, base, image, 0, Fx32Long)).toBe('ok');
    expect(readRegister(arena, base, 'xmm8')).not.toBe(xmm8);
    expect(loadFxsave(arena, base, image, 0, Fx64)).toBe('ok');
    expect(readRegister(arena, base, 'x87.cs')).toBe(0n);
  });

  it('are refused when short or when MXCSR has a reserved bit, and change nothing', () => {
    fill();
    const image = new Uint8Array(512);
    saveFxsave(arena, base, image, 0, Fx64);
    const before = block();
    image[0] = 0x7e;
    expect(loadFxsave(arena, base, image.subarray(0, 511), 0, Fx64)).toBe('short');
    image[26] = 1;
    expect(loadFxsave(arena, base, image, 0, Fx64)).toBe('mxcsr');
    expect(block()).toEqual(before);
    // A zero mask stands for 0xffbf: denormals-are-zeros is reserved then.
    writeRegister(arena, base, 'mxcsrMask', 0n);
    image[26] = 0;
    image[24] = 0x40;
    expect(loadFxsave(arena, base, image, 0, Fx64)).toBe('mxcsr');
  });
});

describe('XSAVE images', () => {
  // SDM 1 §13.1, §13.6: one register of each component in turn.
  it.each([['x87.dp', 1], ['st3', 1], ['xmm15', 2], ['ymmHigh9', 4], ['pkru', 0x200], ['pl3Ssp', 0x800], ['uCet', 0x800], ['pl2Ssp', 0x1000]] as const)('count %s as use of component mask %i', (name, mask) => {
    expect(xinuse(arena, base)).toBe(0);
    writeRegister(arena, base, name, 1n);
    expect(xinuse(arena, base)).toBe(mask);
  });

  it('number the components as XCR0 and IA32_XSS do', () => {
    expect(Xfeature).toEqual({ x87: 1, sse: 2, avx: 4, pkru: 0x200, cetUser: 0x800, cetSupervisor: 0x1000 });
  });

  it('has the sizes and offsets of CPUID leaf 0DH', () => {
    expect([3, 7, 0x203].map(standardSize)).toEqual([576, 832, 0xa88]);
    expect([3, 7, 0x207, 0x203, 0x1803].map(compactedSize)).toEqual([576, 832, 840, 584, 616]);
    expect([compactedOffset(0x207, 9), compactedOffset(0x203, 9), compactedOffset(0x1803, 12)]).toEqual([832, 576, 592]);
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7, 0x207, 0x200])('come back in both formats, features %#x', (requested) => {
    for (const compacted of [false, true]) {
      fill();
      const before = block();
      const image = new Uint8Array(0xa88);
      saveXsave(arena, base, image, 0, { requested, compacted, optimised: compacted, form: Fx64 });
      expect(loadXsave(arena, base, image, 0, { requested, enabled: ALL, formats: 'both', form: Fx64 })).toBe('ok');
      expect(block()).toEqual(before);
      clearFpu();
      writeRegister(arena, base, 'pkru', 0n);
      expect(loadXsave(arena, base, image, 0, { requested, enabled: ALL, formats: 'both', form: Fx64 })).toBe('ok');
      const usedFeatures = requested & xinuse(arena, base);
      expect(usedFeatures).toBe(requested);
    }
  });

  it('hold supervisor components only when compacted', () => {
    fill();
    const supervisor = Xfeature.cetUser | Xfeature.cetSupervisor;
    const image = new Uint8Array(1024);
    expect(saveXsave(arena, base, image, 0, { requested: 3 | supervisor, compacted: true, optimised: true, form: Fx64 })).toBe(616);
    const before = block();
    for (const name of ['uCet', 'pl0Ssp', 'pl1Ssp', 'pl2Ssp', 'pl3Ssp'] as const) writeRegister(arena, base, name, 0n);
    expect(loadXsave(arena, base, image, 0, { requested: supervisor, enabled: 3 | supervisor, formats: 'compacted', form: Fx64 })).toBe('ok');
    expect(block()).toEqual(before);
    expect(loadXsave(arena, base, image, 0, { requested: 3, enabled: 3, formats: 'both', form: Fx64 })).toBe('component');
  });

  it('write only what is in use when optimised', () => {
    const image = new Uint8Array(832).fill(0xa5);
    image.fill(0, 512, 576);
    saveXsave(arena, base, image, 0, { requested: 7, compacted: false, optimised: true, form: Fx64 });
    expect(image[512]).toBe(0);
    expect(image.subarray(0, 24).every((b) => b === 0xa5)).toBe(true);
    expect(image[24]).toBe(0x80);
    expect(image.subarray(160, 512).every((b) => b === 0xa5)).toBe(true);
    saveXsave(arena, base, image, 0, { requested: 7, compacted: false, optimised: false, form: Fx64 });
    expect([image[0], image[1], image[160], image[576]]).toEqual([0x7f, 0x03, 0, 0]);
  });

  it('treat a changed MXCSR as SSE state in the compacted format', () => {
    writeRegister(arena, base, 'mxcsr', 0x1fa0n);
    const image = new Uint8Array(832);
    saveXsave(arena, base, image, 0, { requested: 7, compacted: true, optimised: true, form: Fx64 });
    expect([image[512], image[24]]).toEqual([2, 0xa0]);
  });

  it('leave registers 8 to 15 alone outside 64-bit mode', () => {
    fill();
    const [xmm8, ymm8] = [readRegister(arena, base, 'xmm8'), readRegister(arena, base, 'ymmHigh8')];
    expect(loadXsave(arena, base, new Uint8Array(832), 0, { requested: 7, enabled: 7, formats: 'both', form: Fx32 })).toBe('ok');
    expect([readRegister(arena, base, 'xmm7'), readRegister(arena, base, 'ymmHigh7')]).toEqual([0n, 0n]);
    expect([readRegister(arena, base, 'xmm8'), readRegister(arena, base, 'ymmHigh8')]).toEqual([xmm8, ymm8]);
  });

  // SDM 1 §13.8: what XRSTOR refuses. [byte of the image, value, compacted, expected]
  it.each([
    [512, 0x08, false, 'component'], [516, 0x01, false, 'component'], [520, 0x01, false, 'header'], [535, 0x01, false, 'header'], [536, 0x01, false, 'ok'], [575, 0x01, false, 'ok'],
    [512, 0x08, true, 'component'], [520, 0x0f, true, 'component'], [520, 0x03, true, 'component'], [524, 0x01, true, 'component'], [528, 0x01, true, 'header'], [575, 0x01, true, 'header'],
    [27, 0x01, false, 'mxcsr'], [27, 0x01, true, 'mxcsr'],
  ] as const)('with byte %i = %#x (compacted: %s) loads as %s', (at, value, compacted, expected) => {
    fill();
    const image = new Uint8Array(832);
    saveXsave(arena, base, image, 0, { requested: 7, compacted, optimised: false, form: Fx64 });
    const before = block();
    image[at] = value;
    expect(loadXsave(arena, base, image, 0, { requested: 7, enabled: 7, formats: 'both', form: Fx64 })).toBe(expected);
    expect(block()).toEqual(before);
  });

  it('accept only the formats that the instruction allows', () => {
    const image = new Uint8Array(832);
    const options = { requested: 7, enabled: 7, form: Fx64 };
    expect(loadXsave(arena, base, image, 0, { ...options, formats: 'compacted' })).toBe('header');
    saveXsave(arena, base, image, 0, { requested: 7, compacted: true, optimised: true, form: Fx64 });
    expect(loadXsave(arena, base, image, 0, { ...options, formats: 'standard' })).toBe('header');
    expect(loadXsave(arena, base, image.subarray(0, 575), 0, { ...options, formats: 'both' })).toBe('short');
    expect(loadXsave(arena, base, image.subarray(0, 831), 0, { ...options, formats: 'both' })).toBe('short');
  });
});

describe('XSAVE images of the machine monitor', () => {
  it('come back whole, PKRU of zero included', () => {
    for (const pkru of [0n, 0xffff_ffffn]) {
      fill();
      writeRegister(arena, base, 'pkru', pkru);
      const before = block();
      const image = new Uint8Array(4096);
      exportXsave(arena, base, image, ALL);
      clearFpu();
      writeRegister(arena, base, 'pkru', 0x1234n);
      expect(importXsave(arena, base, image, ALL)).toBe('ok');
      expect(block()).toEqual(before);
    }
    writeRegister(arena, base, 'pkru', 0n);
    const image = new Uint8Array(4096);
    exportXsave(arena, base, image, ALL);
    expect(new DataView(image.buffer).getUint32(512, true) & Xfeature.pkru).toBe(Xfeature.pkru);
  });

  it('initialise every component whose bit is clear but PKRU', () => {
    fill();
    const image = new Uint8Array(4096);
    const view = new DataView(image.buffer);
    view.setUint32(512, Xfeature.pkru, true);
    view.setUint32(0xa80, 0xaaaa_aaaa, true);
    expect(importXsave(arena, base, image, ALL)).toBe('ok');
    expect(readRegister(arena, base, 'pkru')).toBe(0xaaaa_aaaan);
    expect([xinuse(arena, base) & 7, readRegister(arena, base, 'mxcsr')]).toEqual([0, 0x1f80n]);
    view.setUint32(512, 3, true);
    view.setUint16(0, 0x37f, true);
    view.setUint32(24, 0x1f80, true);
    view.setUint32(160, 0x1234_5678, true);
    expect(importXsave(arena, base, image, ALL)).toBe('ok');
    expect([readRegister(arena, base, 'pkru'), readRegister(arena, base, 'xmm0')]).toEqual([0xaaaa_aaaan, 0x1234_5678n]);
  });

  it.each([[512, 0x08, 'component'], [516, 1, 'component'], [513, 0x10, 'component'], [519, 0x80, 'component'], [520, 1, 'header'], [575, 1, 'header'], [26, 1, 'mxcsr']] as const)('with byte %i = %#x are refused: %s', (at, value, expected) => {
    fill();
    const image = new Uint8Array(4096);
    exportXsave(arena, base, image, ALL);
    image[at] = value;
    const before = block();
    expect(importXsave(arena, base, image, ALL)).toBe(expected);
    expect(block()).toEqual(before);
  });

  it('are refused when a component is not in the model or the image ends before it', () => {
    const image = new Uint8Array(4096);
    image[512] = 4;
    expect(importXsave(arena, base, image, 3)).toBe('component');
    expect(importXsave(arena, base, image.subarray(0, 831), 7)).toBe('short');
    expect(importXsave(arena, base, image.subarray(0, 575), 7)).toBe('short');
    image[512] = 0;
    expect(importXsave(arena, base, image.subarray(0, 576), 7)).toBe('ok');
  });
});

/** The save area: a page of the same arena. */
const PAGE = 0;
const pageOf = (): Uint8Array => arena.u8.subarray(PAGE, PAGE + 0x1000);

describe('save-area fields', () => {
  it('come back, with the full tag word in the page', () => {
    fill();
    const before = block();
    const page = pageOf().fill(0xa5);
    saveFpuArea(arena, base, PAGE);
    expect(page.subarray(0, 0x400).every((b) => b === 0xa5) && page.subarray(0x670).every((b) => b === 0xa5)).toBe(true);
    // The contents have exponents and top bits set: every tag is "valid".
    expect([page[SaveAreaFpu.ftw], page[SaveAreaFpu.ftw + 1]]).toEqual([0, 0]);
    expect(page.slice(0x420, 0x428)).toEqual(arena.u8.slice(base + X86.st0, base + X86.st0 + 8));
    expect(page.slice(0x462, 0x464)).toEqual(arena.u8.slice(base + X86.st1 + 8, base + X86.st1 + 10));
    clearFpu();
    expect(loadFpuArea(arena, base, PAGE)).toBe('ok');
    expect(block()).toEqual(before);
  });

  // APM2 Appendix B Table B-4: [byte offset, bytes, cell, value of the cell].
  it.each([
    [0x400, 8, 'x87.dp', 0x1122_3344_5566_7788n], [0x408, 4, 'mxcsr', 0x5fc0n], [0x418, 8, 'x87.rip', 0x8877_6655_4433_2211n], [0x414, 2, 'x87.ds', 0xabcdn], [0x416, 2, 'x87.cs', 0xdcban],
    [0x470, 16, 'xmm0', 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10n], [0x560, 16, 'xmm15', 0xf00dn], [0x570, 16, 'ymmHigh0', 0xbeefn], [0x660, 16, 'ymmHigh15', 1n << 127n],
  ] as const)('hold at %i, %i bytes, cell %s', (offset, size, name, value) => {
    writeRegister(arena, base, name, value);
    const page = pageOf();
    saveFpuArea(arena, base, PAGE);
    const found = [...page.subarray(offset, offset + size)].reduceRight((sum, b) => (sum << 8n) | BigInt(b), 0n);
    expect(found).toBe(value);
    writeRegister(arena, base, name, 0n);
    expect(loadFpuArea(arena, base, PAGE)).toBe('ok');
    expect(readRegister(arena, base, name)).toBe(value);
  });

  it('hold control, status, tag and opcode words', () => {
    writeRegister(arena, base, 'x87.environment', 0x0765_0000_3804_0363n);
    saveFpuArea(arena, base, PAGE);
    // No register in use: all tags 11.
    expect([arena.view.getUint16(PAGE + 0x40c, true), arena.view.getUint16(PAGE + 0x40e, true), arena.view.getUint16(PAGE + 0x410, true), arena.view.getUint16(PAGE + 0x412, true)]).toEqual([0xffff, 0x3804, 0x0363, 0x0765]);
    // An exception that is not masked sets the summary bits when the state is loaded.
    expect(loadFpuArea(arena, base, PAGE)).toBe('ok');
    expect(readRegister(arena, base, 'x87.environment')).toBe(0x0765_0000_b884_0363n);
  });

  it('read tags 0 and 5555H alike, FFFFH as empty', () => {
    for (const [full, tags] of [[0, 0xff], [0x5555, 0xff], [0xffff, 0]] as const) {
      arena.view.setUint16(PAGE + SaveAreaFpu.ftw, full, true);
      expect(loadFpuArea(arena, base, PAGE)).toBe('ok');
      expect(arena.u8[base + X87.tags]).toBe(tags);
    }
  });

  it('are refused with reserved MXCSR bits, and change nothing', () => {
    fill();
    const before = block();
    const page = pageOf();
    page[SaveAreaFpu.mxcsr + 2] = 1;
    expect(loadFpuArea(arena, base, PAGE)).toBe('mxcsr');
    expect(block()).toEqual(before);
  });
});
