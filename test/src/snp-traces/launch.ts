import { buildVmsa, BSP_EIP, coconutGuestVmsa, Vmsa } from '@vmplanes/abi-sev-snp';
import type { GeneratorScript, RegisterValues, Step } from '@vmplanes/x86';
import { type Code, C_BIT, GuestCode } from '../snp-demo/guest-code.ts';

// An SVSM as an image of its own, as a script at VMPL0: from its start to the first call of its guest. Addresses are examples.

/** Pages of the SVSM. */
const Svsm = { tables: 0x800_1000, tables2: 0x800_2000, ghcb: 0x8a3_0000, doorbell: 0x8a3_2000, vmsa: 0x8a4_0000 } as const;
/** Pages of the firmware. */
const Ovmf = { secrets: 0x80_d000, area: 0x80_f000, list: 0x80_8000 } as const;
const SVME = 0x1000;
/** RMPADJUST operands: target VMPL2, rights in bits 15:8, the VMSA bit. */
const Adjust = { guest: 0xf02, vmsa: 0x1_0102 } as const;
const GHCB_MSR = 0xc001_0130;

/** 64-bit mode over tables that map everything as private. */
const longMode: RegisterValues = {
  cr3: BigInt(Svsm.tables) + BigInt(C_BIT), cr4: 0x20, cr0: 0x8001_0033, efer: 0x1d00, rflags: 2,
  'cs.selector': 8, 'cs.attributes': 0xa9b, 'cs.limit': '0xffffffff', 'ss.selector': 0x10, 'ss.attributes': 0xc93, 'ss.limit': '0xffffffff',
};

function* instruction(name: string, regs: RegisterValues): Code<bigint> {
  return (yield { op: 'instruction', name, regs } as Step).rax & 0xffff_ffffn;
}
const pvalidate = (gpa: number, validate: boolean): Code<bigint> => instruction('pvalidate', { rax: gpa, rcx: 0, rdx: validate ? 1 : 0 });
const rmpadjust = (gpa: number, operand: number): Code<bigint> => instruction('rmpadjust', { rax: gpa, rcx: 0, rdx: operand });

/** A private page of the SVSM's own. */
function* own(code: GuestCode, gpa: number): Code {
  yield* code.pageState(gpa, true);
  yield* pvalidate(gpa, true);
}

/** VMPL0: the kernel of an SVSM on its boot processor, then its loop of requests. */
const svsmImage: GeneratorScript = {
  id: 'svsm-image',
  *main() {
    const code = new GuestCode(-1);
    yield { op: 'rdmsr', index: 0xc001_0131 };
    yield* own(code, Svsm.tables);
    yield* own(code, Svsm.tables2);
    yield* code.words(Svsm.tables, BigInt(Svsm.tables2) + BigInt(C_BIT) + 3n);
    yield* code.words(Svsm.tables2, BigInt(C_BIT) + 0x83n);
    yield { op: 'work', regs: longMode };
    yield* code.msr(0x002);
    yield* code.pageState(Svsm.ghcb, false);
    yield* code.msr(BigInt(Svsm.ghcb) | 0x012n);
    code.ghcb = Svsm.ghcb;
    // APIC: x2APIC mode, enabled, its id.
    const msr = (rcx: number, rax: number | null): Code<unknown> => code.exit({ swExitCode: 0x7c, swExitInfo1: rax === null ? 0 : 1, swExitInfo2: 0, rcx, ...(rax === null ? {} : { rax, rdx: 0 }) });
    yield* msr(0x1b, null);
    yield* msr(0x1b, 0xfee0_0d00);
    yield* msr(0x80f, 0x1ff);
    yield* msr(0x802, null);
    // Console: the state of the line, then a character.
    yield* code.exit({ swExitCode: 0x7b, swExitInfo1: 0x03fd_0011, swExitInfo2: 0, rax: 0 });
    yield* code.exit({ swExitCode: 0x7b, swExitInfo1: 0x03f8_0010, swExitInfo2: 0, rax: 0x5b });
    yield* code.msr(0x080);
    yield* code.exit({ swExitCode: 0x8000_0014n, swExitInfo1: 1, swExitInfo2: Svsm.doorbell });
    yield* code.exit({ swExitCode: 0x72, swExitInfo1: 0, swExitInfo2: 0, rax: 0x4000_0001, rcx: 0, xcr0: 1 });
    // Memory of the firmware: private, valid, the guest's.
    for (const gpa of [Ovmf.list, Ovmf.secrets, Ovmf.area]) {
      yield* own(code, gpa);
      yield* rmpadjust(gpa, Adjust.guest);
    }
    yield* code.words(Ovmf.secrets + 0x140, 0x800_0000, 0x100_0000, Ovmf.area, (2n << 32n) | 1n);
    yield* code.words(Ovmf.area, 0);
    // The first VMSA of the guest.
    yield* own(code, Svsm.vmsa);
    yield* code.fill(Svsm.vmsa, buildVmsa({ ...coconutGuestVmsa({ eip: BSP_EIP, vmpl: 2, sevFeatures: 1n }), efer: BigInt(SVME) }));
    yield* rmpadjust(Svsm.vmsa, Adjust.vmsa);
    yield* code.createAp(0, 2, Svsm.vmsa, 0);
    // Calls of the guest: PVALIDATE lists of one entry, until it asks for something else.
    for (;;) {
      yield { op: 'wrmsr', index: GHCB_MSR, value: 0x2_0000_0016n };
      yield { op: 'call', via: 'vmgexit' };
      yield { op: 'rdmsr', index: GHCB_MSR };
      const efer = yield* code.read(Svsm.vmsa + Vmsa.at.efer);
      yield* code.write(Svsm.vmsa + Vmsa.at.efer, efer & ~BigInt(SVME));
      if ((yield* code.read(Svsm.vmsa + Vmsa.at.exitCode)) === 0x403n && (yield* code.read(Ovmf.area, 1)) !== 0n) {
        yield* code.write(Ovmf.area, 0, 1);
        const rax = yield* code.read(Svsm.vmsa + Vmsa.at.rax);
        if (rax !== 1n) break;
        const list = Number(yield* code.read(Svsm.vmsa + Vmsa.at.rcx));
        const entry = yield* code.read(list + 8);
        const gpa = Number(entry & ~0xfffn);
        yield* pvalidate(gpa, true);
        yield* code.fill(gpa, new Uint8Array(64));
        yield* rmpadjust(gpa, Adjust.guest);
        yield* code.write(list + 2, 1, 2);
        yield* code.write(Svsm.vmsa + Vmsa.at.rax, 0);
      }
      yield* code.write(Svsm.vmsa + Vmsa.at.efer, efer | BigInt(SVME));
    }
    // The end: no call that it knows.
    yield* code.msr(0x100);
  },
};

/** VMPL2: the first code of a firmware. */
const firmware: GeneratorScript = {
  id: 'firmware',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* code.read(Ovmf.secrets + 0x148);
    yield* code.pageState(0x10_0000, true);
    yield* code.words(Ovmf.list, 1, 0x10_0004);
    yield* code.svsm(1n, { rcx: Ovmf.list });
    yield* code.write(0x10_0000, 1);
    yield* code.svsm(8n);
  },
};

export const launchScripts: readonly GeneratorScript[] = [svsmImage, firmware];
