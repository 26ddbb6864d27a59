import { fromWords, hiWord, loWord } from '@vmplanes/binary';
import { HostError, type PlainState } from '@vmplanes/engine';
import type { HvOptions } from './options.ts';
import type { HvContext } from './ports.ts';

const PAGE_BYTES = 4096;
const FILL = 0xcc;
const RET = 0xc3;
const JMP_SHORT = 0xeb;
const VMCALL = [0x0f, 0x01, 0xc1] as const;
const VMMCALL = [0x0f, 0x01, 0xd9] as const;

const ENABLE = 1;
const LOCKED = 2;

/** One stub of the page: what it does before the hypercall instruction. */
interface Stub {
  readonly name: string;
  readonly offset: number;
  /** Moves the control input out of the way and loads the control word. */
  readonly prologue: readonly number[];
}

/** Words that a stub needs when it ends in the instruction, and when it jumps to the one at offset 0. */
const TAIL_BYTES = 4;
const JUMP_BYTES = 2;

/** 64 bits: `mov rax, rcx; mov ecx, code`. 32 bits: `mov ecx, eax; mov eax, code`. @spec TLFS Virtual Secure Mode, VTL call and VTL return code sequences */
const stubs = ({ call64, return64, call32, return32 }: HvOptions['codeOffsets']): readonly Stub[] => {
  const wide = (code: number): readonly number[] => [0x48, 0x89, 0xc8, 0xb9, code, 0, 0, 0];
  const narrow = (code: number): readonly number[] => [0x89, 0xc1, 0xb8, code, 0, 0, 0];
  const list: Stub[] = [
    { name: 'call64', offset: call64, prologue: wide(0x11) },
    { name: 'return64', offset: return64, prologue: wide(0x12) },
  ];
  // Where one offset serves both modes, 64-bit code has it.
  if (call32 !== call64) list.push({ name: 'call32', offset: call32, prologue: narrow(0x11) });
  if (return32 !== return64) list.push({ name: 'return32', offset: return32, prologue: narrow(0x12) });
  return list.sort((a, b) => a.offset - b.offset);
};

/**
 * The content of the hypercall page: the hypercall instruction and a return at offset 0, the VTL stubs at their offsets, traps elsewhere.
 * A stub without room for the instruction jumps to the one at offset 0.
 * @param isAmd - VMMCALL instead of VMCALL.
 * @throws {HostError} BadConfig when the stubs do not fit at these offsets.
 * @spec TLFS Hypercall Interface, establishing the hypercall interface; openvmm vm/hv1/hv1_emulator/src/hv.rs
 */
export const hypercallPage = (codeOffsets: HvOptions['codeOffsets'], isAmd: boolean): Uint8Array => {
  const page = new Uint8Array(PAGE_BYTES).fill(FILL);
  const instruction = isAmd ? VMMCALL : VMCALL;
  page.set([...instruction, RET], 0);
  let end: number = TAIL_BYTES;
  const all = stubs(codeOffsets);
  all.forEach(({ name, offset, prologue }, i) => {
    const next = all[i + 1]?.offset ?? PAGE_BYTES;
    const refuse = (): never => {
      throw new HostError('BadConfig', `hyperv-vtl: codeOffsets.${name} 0x${offset.toString(16)}: no room for the stub`);
    };
    if (!Number.isInteger(offset) || offset < end) refuse();
    const behind = offset + prologue.length;
    const jump = -(behind + JUMP_BYTES);
    if (behind + TAIL_BYTES <= next) page.set([...prologue, ...instruction, RET], offset);
    else if (behind + JUMP_BYTES <= next && jump >= -128) page.set([...prologue, JMP_SHORT, jump & 0xff], offset);
    else refuse();
    end = behind + (behind + TAIL_BYTES <= next ? TAIL_BYTES : JUMP_BYTES);
  });
  return page;
};

/**
 * GUEST_OS_ID and HYPERCALL of each VTL, and the pages they place. One value for all VPs of the partition.
 * @spec TLFS Hypercall Interface, establishing the hypercall interface; TLFS Feature and Interface Discovery, guest OS identity
 */
export class HypercallPages {
  readonly #hv: HvContext;
  readonly #content: Uint8Array;
  /** By VTL: identity low, high; page register low, high. */
  #cells = new Uint32Array(16 * 4);
  /** By VTL: 1 when calls are served. */
  readonly enabled = new Uint8Array(16);

  /** @throws {HostError} BadConfig when the stubs do not fit. */
  constructor(hv: HvContext) {
    this.#hv = hv;
    const isAmd = hv.arch.registers.features.vendor === 'AuthenticAMD' || hv.arch.registers.features.vendor === 'HygonGenuine';
    this.#content = hypercallPage(hv.options.codeOffsets, isAmd);
  }

  guestOsId(vtl: number): bigint {
    return fromWords(this.#cells[4 * vtl]!, this.#cells[4 * vtl + 1]!);
  }

  /** Zero takes the identity away and disables the page. */
  setGuestOsId(vtl: number, value: bigint): void {
    this.#cells[4 * vtl] = loWord(value);
    this.#cells[4 * vtl + 1] = hiWord(value);
    if (value === 0n && this.enabled[vtl] !== 0) {
      this.#cells[4 * vtl + 2]! &= ~ENABLE;
      this.enabled[vtl] = 0;
      this.#hv.chapters.overlays.place('hypercall', 0, vtl, null);
    }
  }

  msr(vtl: number): bigint {
    return fromWords(this.#cells[4 * vtl + 2]!, this.#cells[4 * vtl + 3]!);
  }

  /** Without an identity the page stays disabled, silently. @returns false for #GP: the register is locked, or the page is beyond the address space. */
  setMsr(vtl: number, value: bigint): boolean {
    if ((this.#cells[4 * vtl + 2]! & LOCKED) !== 0) return false;
    const wants = (loWord(value) & ENABLE) !== 0;
    const isOn = wants && this.guestOsId(vtl) !== 0n;
    const gpn = Number(value >> 12n);
    const { overlays } = this.#hv.chapters;
    if (wants && !overlays.isInSpace(gpn)) return false;
    if (isOn) {
      const frame = overlays.place('hypercall', 0, vtl, gpn);
      if (frame < 0) return false;
      this.#hv.machine.arena.u8.set(this.#content, frame);
    } else if (this.enabled[vtl] !== 0) {
      overlays.place('hypercall', 0, vtl, null);
    }
    this.#cells[4 * vtl + 2] = isOn ? loWord(value) : loWord(value) & ~ENABLE;
    this.#cells[4 * vtl + 3] = hiWord(value);
    this.enabled[vtl] = isOn ? 1 : 0;
    return true;
  }

  /** System reset; the only way out of the locked state. */
  reset(): void {
    for (let vtl = 0; vtl < 16; vtl++) if (this.enabled[vtl] !== 0) this.#hv.chapters.overlays.place('hypercall', 0, vtl, null);
    this.#cells.fill(0);
    this.enabled.fill(0);
  }

  save(): PlainState {
    return this.#cells.slice();
  }
  restore(state: PlainState): void {
    this.#cells = (state as Uint32Array).slice();
    for (let vtl = 0; vtl < 16; vtl++) this.enabled[vtl] = this.#cells[4 * vtl + 2]! & ENABLE;
  }
}
