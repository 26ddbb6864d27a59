import { Ghcb } from '@vmplanes/abi-sev-snp';
import { AttestationCall, CoreCall, guidBytes, SvsmAttestSingleService, SvsmService, VtpmCall } from '@vmplanes/abi-svsm';
import type { GeneratorScript } from '@vmplanes/x86';
import { type Code, discover, GuestCode, hexOf } from '../snp-demo/guest-code.ts';
import { launchScripts } from './launch.ts';

// The sequences of an SVSM and its guest, message by message, as a firmware, Linux and their processors make them. Addresses are examples.

const PAGE = 4096;
/** OVMF's pages. @spec edk2 OvmfPkg/OvmfPkgX64.fdf */
const Ovmf = { ghcb: 0x80_9000, secrets: 0x80_d000, area: 0x80_f000 } as const;
/** Where Linux puts its own. */
const Linux = { bootArea: 0x02c4_0000, page: 0x02c3_e000, area: 0x03a1_b000, ghcb: 0x03a1_c000, bulk: 0x0300_0000, vmsa1: 0x0400_2000, area1: 0x0400_5000, tpm: 0x0500_0000, report: 0x0600_0000, nonce: 0x0600_1000, manifest: 0x0600_2000, certificates: 0x0600_4000 } as const;
const NAE = { psc: 0x8000_0010n, apicIds: 0x8000_0017n, features: 0x8000_fffdn } as const;

/** Page state change through the GHCB page: up to a few entries in the shared buffer. @spec GHCB 4.1 (SNP page state change) */
function* changeStates(code: GuestCode, isPrivate: boolean, ...gpas: readonly number[]): Code<readonly [bigint, bigint]> {
  const buffer = new DataView(new ArrayBuffer(8 + gpas.length * 8));
  buffer.setUint16(2, gpas.length - 1, true);
  gpas.forEach((gpa, i) => buffer.setBigUint64(8 + i * 8, BigInt(gpa) | ((isPrivate ? 1n : 2n) << 52n), true));
  yield { op: 'fill', gpa: code.ghcb + Ghcb.at.sharedBuffer, bytes: hexOf(new Uint8Array(buffer.buffer)) };
  return yield* code.exit({ swExitCode: NAE.psc, swExitInfo1: 0, swExitInfo2: 0, swScratch: code.ghcb + Ghcb.at.sharedBuffer });
}

/** A page becomes the guest's: the host makes it private, the SVSM validates it. */
function* accept(code: GuestCode, ...gpas: readonly number[]): Code {
  for (const gpa of gpas) yield* code.pageState(gpa, true);
  yield* code.pvalidate(gpas.map((gpa) => [gpa]));
}

/** OVMF on the boot processor: SEC and PEI, then the end of its second processor. */
const ovmf: GeneratorScript = {
  id: 'ovmf',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* code.msr(0x002);
    yield* discover(code, Ovmf.secrets);
    yield* code.openGhcb(Ovmf.ghcb);
    yield* code.exit({ swExitCode: NAE.features, swExitInfo1: 0, swExitInfo2: 0 });
    // OVMF makes its calls through the MSR alone.
    const call = function* (list: readonly (readonly [number, { readonly validate?: boolean; readonly large?: boolean }?])[], next = 0): Code<number> {
      yield* code.words(Ovmf.area + 8, BigInt(list.length) | (BigInt(next) << 16n), ...list.map(([gpa, { validate = true, large = false } = {}]) => BigInt(gpa) | (validate ? 4n : 0n) | (large ? 1n : 0n)));
      return (yield* code.svsm(CoreCall.Pvalidate, { rcx: Ovmf.area + 8 }, 'msr')).result;
    };
    const ram = [0x10_0000, 0x10_1000, 0x10_2000, 0x10_3000];
    yield* changeStates(code, true, ...ram);
    yield* call(ram.map((gpa) => [gpa]));
    // 2 MiB over pages of 4 KiB: the host's entries are small, so the same goes on page by page.
    yield* changeStates(code, true, 0x40_0000, 0x40_1000);
    const mismatch = yield* call([[0x40_0000, { large: true }]]);
    if (mismatch === 0x8000_1006) yield* call([[0x40_0000], [0x40_1000]]);
    // Memory for devices becomes shared.
    yield* call([[0x10_3000, { validate: false }]]);
    yield* changeStates(code, false, 0x10_3000);
  },
};

/** Linux on the boot processor. */
const linux: GeneratorScript = {
  id: 'linux',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield { op: 'rdmsr', index: 0xc001_0131 };
    yield* discover(code, Ovmf.secrets);
    yield* accept(code, Linux.bootArea);
    yield* code.svsm(CoreCall.RemapCa, { rcx: Linux.bootArea }, 'msr');
    code.area = Linux.bootArea;
    // Early changes of single pages, both ways.
    yield* code.pageState(Linux.page, true);
    yield* code.pvalidate([[Linux.page]]);
    yield* code.pvalidate([[Linux.page, { validate: false }]]);
    yield* code.pageState(Linux.page, false);
    yield* accept(code, Linux.ghcb, Linux.area);
    yield* code.openGhcb(Linux.ghcb);
    // From here on the page form.
    yield* code.svsm(CoreCall.RemapCa, { rcx: Linux.area });
    code.area = Linux.area;
    const bulk = [0, 1, 2].map((i) => Linux.bulk + i * PAGE);
    yield* changeStates(code, true, ...bulk);
    yield* code.pvalidate(bulk.map((gpa) => [gpa]));
    yield* code.svsm(VtpmCall.Query);
    // Naming the calling area in use once more.
    yield* code.svsm(CoreCall.RemapCa, { rcx: Linux.area });
  },
};

/** The second processor, brought up by Linux and stopped again; by the boot processor. */
const bringUp: GeneratorScript = {
  id: 'bring-up',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* code.openGhcb(Ovmf.ghcb);
    yield* accept(code, Linux.vmsa1, Linux.area1, Linux.page);
    yield* code.exit({ swExitCode: NAE.apicIds, rax: 0, swExitInfo1: 0, swExitInfo2: 0 });
    yield* code.fillVmsa(Linux.vmsa1, 2, 0x1000);
    yield* code.svsm(CoreCall.CreateVcpu, { rcx: Linux.vmsa1, rdx: Linux.area1, r8: 1 });
    yield* code.createAp(1, 2, Linux.vmsa1);
    while ((yield* code.read(Linux.page)) === 0n) yield { op: 'work', cost: 500 };
    yield* code.createAp(1, 2, Linux.vmsa1, 2);
    yield* code.svsm(CoreCall.DeleteVcpu, { rcx: Linux.vmsa1 });
  },
};
const secondary: GeneratorScript = {
  id: 'secondary',
  *main() {
    const code = new GuestCode(Linux.area1);
    yield* code.svsm(CoreCall.QueryProtocol, { rcx: 1 });
    yield* code.write(Linux.page, 1);
    yield { op: 'hlt' };
  },
};

/** TPM2_Startup and TPM2_GetRandom of 8 bytes. */
const tpm: GeneratorScript = {
  id: 'tpm',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* accept(code, Linux.tpm);
    yield* code.svsm(VtpmCall.Query);
    for (const command of ['80010000000c000001440000', '80010000000c0000017b0008']) {
      yield* code.fill(Linux.tpm, `08000000000c000000${command}`);
      yield* code.svsm(VtpmCall.Cmd, { rcx: Linux.tpm });
      yield* code.read(Linux.tpm, 4);
    }
  },
};

/** A report for the vTPM: first with a buffer that is too small, then with one that is not. */
const attestation: GeneratorScript = {
  id: 'attestation',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* accept(code, ...[0, 1, 2, 3, 4, 5, 6, 7].map((i) => Linux.report + i * PAGE));
    yield* code.fill(Linux.nonce, Uint8Array.from({ length: 64 }, (_, i) => i));
    const bytes = new Uint8Array(SvsmAttestSingleService.size);
    const all = 0xffff_ffff_ffff_ffffn;
    for (const reportSize of [0x400, 0x1000]) {
      SvsmAttestSingleService.write(new DataView(bytes.buffer), 0, {
        reportGpa: BigInt(Linux.report), reportSize, nonceGpa: BigInt(Linux.nonce), nonceSize: 64, manifestGpa: BigInt(Linux.manifest), manifestSize: 0x1000,
        certificateGpa: BigInt(Linux.certificates), certificateSize: 0x4000, service: guidBytes(SvsmService.Vtpm), manifestVersion: 0,
      });
      yield* code.fill(Ovmf.area + 8, bytes);
      yield* code.svsm(AttestationCall.SingleService, { rcx: Ovmf.area + 8, rdx: all, r8: all });
    }
  },
};

/** A reboot: there is no message for it; the processor shuts down. */
const reboot: GeneratorScript = {
  id: 'reboot',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* code.svsm(CoreCall.QueryProtocol, { rcx: 1 });
    yield { op: 'shutdown' };
  },
};

/** A guest that finds no SVSM ends itself. @spec Linux arch/x86/include/asm/sev-common.h (GHCB_TERM_NO_SVSM) */
const termination: GeneratorScript = {
  id: 'termination',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* discover(code, Ovmf.secrets);
    yield* code.msr(0x0007_1100);
  },
};

/** A calling area that the SVSM cannot reach: where it does not look, it ends with the guest. */
const panic: GeneratorScript = {
  id: 'panic',
  *main() {
    const code = new GuestCode(Ovmf.area);
    yield* code.svsm(CoreCall.RemapCa, { rcx: Linux.bootArea });
  },
};

export const scripts: readonly GeneratorScript[] = [...launchScripts, ovmf, linux, bringUp, secondary, tpm, attestation, reboot, termination, panic];
