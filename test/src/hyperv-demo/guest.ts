import { HvCall, HvRegister, type HvRegisterName, type ParameterCall } from '@vmplanes/abi-hyperv';
import type { InferInput } from '@vmplanes/binary';
import type { GeneratorScript, RegisterValues, Step, StepResult } from '@vmplanes/x86';

// A guest with virtual secure mode on two VPs: a kernel in VTL0, a secure kernel in VTL1. The kernel tries to write where the
// secure kernel forbade it; timers run in both VTLs, and the secure kernel is told of interrupts that wait in the kernel.

type Code<T = void> = Generator<Step, T, StepResult>;

const SELF = 0xffff_ffff_ffff_ffffn;
const VP_SELF = 0xffff_fffe;
/** The page that the kernel may only read, and the word by which VP0 says that VP1 has its VTL1. */
const SECRET = 0x5_0000;
const READY = 0x6_0000;
const page = (vp: number, vtl: number, n: number): number => 0x8_0000 + (vp * 2 + vtl) * 0x1_0000 + n * 0x1000;
const Msr = { osId: 0x4000_0000, hypercall: 0x4000_0001, reference: 0x4000_0020, assist: 0x4000_0073, scontrol: 0x4000_0080, simp: 0x4000_0083, eom: 0x4000_0084, sint0: 0x4000_0090, timerConfig: 0x4000_00b0, timerCount: 0x4000_00b1 } as const;
const Vector = { intercept: 0x50, vina: 0x60, secureTimer: 0x70, timer: 0x40 } as const;

/** 64-bit kernel mode, as a boot loader leaves it. */
const kernelMode: RegisterValues = {
  cr0: 0x8001_0011, cr4: 0x620, efer: 0xd01, rflags: 2,
  'cs.selector': 8, 'cs.attributes': 0xa9b, 'cs.limit': '0xffffffff', 'ss.selector': 0x10, 'ss.attributes': 0xc93, 'ss.limit': '0xffffffff',
};
const segment = (selector: number, attributes: number) => ({ base: 0n, limit: 0xffff_ffff, selector, attributes });

const hex = (bytes: Uint8Array): string => Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join('');

/** Encodes a parameter block. */
const block = <C extends ParameterCall>(call: C, header: InferInput<C['header']>, elements: readonly InferInput<C['element']>[] = []): Uint8Array => {
  const size = call.header.size + elements.length * call.element.size;
  const bytes = new Uint8Array(Math.ceil(size / 8) * 8);
  const view = new DataView(bytes.buffer);
  (call.header as { write(view: DataView, at: number, value: unknown): void }).write(view, 0, header);
  elements.forEach((e, i) => (call.element as { write(view: DataView, at: number, value: unknown): void }).write(view, call.header.size + i * call.element.size, e));
  return bytes;
};

/** What a kernel in one VTL of one VP does with the hypervisor. */
class Kernel {
  constructor(
    readonly vp: number,
    readonly vtl: number,
  ) {}

  *call<C extends ParameterCall>(call: C, header: InferInput<C['header']>, elements: readonly InferInput<C['element']>[] = []): Code<bigint> {
    const gpa = page(this.vp, this.vtl, 0);
    yield { op: 'fill', gpa, bytes: hex(block(call, header, elements)) };
    const result = yield { op: 'call', regs: { rcx: BigInt(call.code) | (BigInt(elements.length) << 32n), rdx: gpa, r8: page(this.vp, this.vtl, 1) } };
    return result.rax & 0xffffn;
  }
  *setRegister(name: HvRegisterName, value: bigint): Code {
    yield* this.call(HvCall.SetVpRegisters, { partitionId: SELF, vpIndex: VP_SELF, inputVtl: 0 }, [{ name: HvRegister[name], value: { low: value, high: 0n } }]);
  }
  *protect(gpn: number, rights: number): Code {
    yield* this.call(HvCall.ModifyVtlProtectionMask, { targetPartitionId: SELF, mapFlags: rights, targetVtl: 0 }, [BigInt(gpn)]);
  }
  *enableVp(vpIndex: number): Code {
    const at = BigInt(0x10_0000 + vpIndex * 0x1000);
    const vpContext = {
      rip: at, rsp: at + 0x800n, rflags: 2n,
      cs: segment(8, 0xa09b), ds: segment(0x10, 0xc093), es: segment(0x10, 0xc093), fs: segment(0x10, 0xc093), gs: segment(0x10, 0xc093), ss: segment(0x10, 0xc093),
      tr: { ...segment(0x18, 0x8b), limit: 0x67 }, ldtr: { ...segment(0, 0x82), limit: 0 }, idtr: { limit: 0xfff, base: 0n }, gdtr: { limit: 0x7f, base: 0n },
      efer: 0xd00n, cr0: 0x8001_0011n, cr3: 0x4_0000n, cr4: 0x620n, msrCrPat: 0x0007_0406_0007_0406n,
    };
    yield* this.call(HvCall.EnableVpVtl, { targetPartitionId: SELF, vpIndex, targetVtl: 1, vpContext });
  }
  *open(): Code {
    yield { op: 'wrmsr', index: Msr.osId, value: 0x8100_0000_0000_0000n };
    yield { op: 'wrmsr', index: Msr.hypercall, value: 0x1000 * (1 + this.vtl) + 1 };
    yield { op: 'wrmsr', index: 0x1b, value: 0xfee0_0c00 + (this.vp === 0 ? 0x100 : 0) };
    yield { op: 'wrmsr', index: 0x80f, value: 0x1ff };
  }
  *openSynic(): Code {
    yield { op: 'wrmsr', index: Msr.assist, value: page(this.vp, this.vtl, 2) + 1 };
    yield { op: 'wrmsr', index: Msr.simp, value: page(this.vp, this.vtl, 3) + 1 };
    yield { op: 'wrmsr', index: Msr.scontrol, value: 1 };
    yield { op: 'wrmsr', index: Msr.sint0, value: Vector.intercept };
  }
  /** A direct timer after a delay in 100 ns. @spec TLFS Timers: enable 0, periodic 1, auto-enable 3, vector 11:4, direct 12 */
  *timer(vector: number, delay: bigint, periodic: boolean): Code {
    const { edxEax } = yield { op: 'rdmsr', index: Msr.reference };
    yield { op: 'wrmsr', index: Msr.timerConfig, value: 0x1000 | (vector << 4) | 8 | (periodic ? 2 : 0) };
    yield { op: 'wrmsr', index: Msr.timerCount, value: periodic ? delay : edxEax + delay };
  }
  vtlCall(): Step {
    return { op: 'call', regs: { rcx: 0x11, rax: 0 } };
  }
  vtlReturn(): Step {
    return { op: 'call', regs: { rcx: 0x12, rax: 1 } };
  }
}

const vpOf = (vp: number | string | boolean | undefined): number => Number(vp ?? 0);

/** VTL0: enables secure mode from VP0, then works, writes to the secret, and calls the secure kernel. */
const kernel: GeneratorScript = {
  id: 'kernel',
  *main(args) {
    const vp = vpOf(args['vp']);
    const k = new Kernel(vp, 0);
    yield { op: 'work', regs: kernelMode };
    yield* k.open();
    if (vp === 0) {
      yield { op: 'call', regs: { rcx: 0x1_000d, rdx: SELF, r8: 1 } };
      yield* k.enableVp(VP_SELF);
    } else {
      for (;;) {
        const { rax } = yield { op: 'read', gpa: READY, size: 4, cost: 20 };
        if (rax !== 0n) break;
      }
    }
    yield k.vtlCall();
    yield* k.timer(Vector.timer, 40n, true);
    yield { op: 'sti' };
    for (let round = 0; round < 3; round++) {
      yield { op: 'work', cost: 2_000 };
      yield { op: 'write', gpa: SECRET + 8 * vp, value: 0xbad, size: 8 };
      yield k.vtlCall();
    }
    yield { op: 'wrmsr', index: Msr.timerConfig, value: 0 };
  },
  *handler() {
    yield { op: 'eoi' };
  },
};

/** VTL1: protects the secret, then serves calls, intercepts, its timer and notifications. */
const secureKernel: GeneratorScript = {
  id: 'secure-kernel',
  *main(args) {
    const vp = vpOf(args['vp']);
    const k = new Kernel(vp, 1);
    yield* k.open();
    yield* k.openSynic();
    if (vp === 0) {
      yield* k.setRegister('VsmPartitionConfig', 0x3fn);
      yield* k.protect(SECRET / 0x1000, 1);
      yield* k.enableVp(1);
      yield { op: 'write', gpa: READY, value: 1, size: 4 };
    }
    // Vector, enabled, reset by itself at the next entry.
    yield* k.setRegister('VsmVina', BigInt(Vector.vina) | (3n << 8n));
    for (let calls = 0; ; calls++) {
      if (calls < 2) yield* k.timer(Vector.secureTimer, 90n, false);
      if (calls > 0) yield* k.protect(SECRET / 0x1000, 1);
      yield { op: 'sti' };
      // Long enough for the kernel's timer to fire meanwhile: its interrupt waits, and the notification comes here.
      yield { op: 'work', cost: 6_000 };
      yield { op: 'cli' };
      yield k.vtlReturn();
    }
  },
  *handler(vector, args) {
    const k = new Kernel(vpOf(args['vp']), 1);
    if (vector === Vector.intercept) {
      const slot = page(k.vp, 1, 3);
      yield { op: 'read', gpa: slot, size: 4 };
      // Grants the write this once: the instruction runs again when the kernel goes on.
      yield* k.protect(SECRET / 0x1000, 3);
      yield { op: 'write', gpa: slot, value: 0, size: 4 };
      yield { op: 'wrmsr', index: Msr.eom, value: 0 };
    }
    yield { op: 'eoi' };
  },
};

export const scripts: readonly GeneratorScript[] = [kernel, secureKernel];
