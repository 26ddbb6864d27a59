import { ApicCall, AttestationCall, CoreCall, SvsmAttestServices, type SvsmCall, VtpmCall } from '@vmplanes/abi-svsm';
import type { GeneratorScript } from '@vmplanes/x86';
import { type Code, discover, GuestCode } from './guest-code.ts';

// A SEV-SNP guest of two processors at VMPL2: it finds the SVSM, validates memory through it, brings up its second processor, asks for an attestation report and
// for a random number of the TPM.

/** The firmware's memory is the guest's from the start; the rest it validates itself. */
const At = { secrets: 0x80_d000, area: 0x80_f000, ghcb: 0x80_9000, memory: 0x100_0000, vmsa: 0x104_2000, area1: 0x104_5000, report: 0x106_0000, nonce: 0x106_1000, manifest: 0x106_2000, certificates: 0x106_4000, tpm: 0x105_0000, ready: 0x107_0000 } as const;
const PAGE = 4096;
const pages = (gpa: number, count: number): number[] => Array.from({ length: count }, (_, i) => gpa + i * PAGE);

/** The script ends as failed where something is not as it must be. */
function* must(what: string, is: bigint | number, value: bigint | number): Code {
  if (BigInt(is) === BigInt(value)) return;
  // Names the mistake in the failure of the step.
  yield { op: 'work', regs: { rax: BigInt(is) } };
  yield { op: 'expect', register: 'rax', equals: value };
  throw new Error(what);
}

/** GHCB MSR: pages become private, then valid. */
function* accept(code: GuestCode, gpas: readonly number[]): Code {
  for (const gpa of gpas) yield* must('page state change', (yield* code.pageState(gpa, true)) & 0xfffn, 0x015);
  yield* must('PVALIDATE', (yield* code.pvalidate(gpas.map((gpa) => [gpa]))).result, 0);
}

const versions = (call: SvsmCall): bigint => (BigInt(call.protocol) << 32n) | 1n;

const kernel: GeneratorScript = {
  id: 'kernel',
  *main() {
    const code = new GuestCode(At.area);
    yield { op: 'rdmsr', index: 0xc001_0131 };
    const svsm = yield* discover(code, At.secrets);
    yield* must('an SVSM', svsm.size > 0n ? 1 : 0, 1);
    yield* must('VMPL', svsm.vmpl, 2);
    code.area = Number(svsm.area);
    const offers: boolean[] = [];
    for (const call of [CoreCall.QueryProtocol, AttestationCall.Services, VtpmCall.Query, ApicCall.QueryFeatures]) offers.push((yield* code.svsm(CoreCall.QueryProtocol, { rcx: versions(call) })).rcx !== 0n);

    yield* must('GHCB versions', (yield* code.msr(0x002)) & 0xfffn, 0x001);
    yield* code.openGhcb(At.ghcb);
    yield* accept(code, [...pages(At.vmsa, 1), ...pages(At.area1, 1), ...pages(At.report, 7), ...pages(At.tpm, 1), ...pages(At.ready, 1)]);
    const [, features] = yield* code.exit({ swExitCode: 0x8000_fffd, swExitInfo1: 0, swExitInfo2: 0 });
    yield* must('AP creation and several VMPLs are offered', features & 0x22n, 0x22);

    // The second processor: its VMSA through the SVSM, then the host is asked to run it.
    yield* code.fillVmsa(At.vmsa, 2, 0x1000);
    yield* must('CREATE_VCPU', (yield* code.svsm(CoreCall.CreateVcpu, { rcx: At.vmsa, rdx: At.area1, r8: 1 })).result, 0);
    yield* must('AP creation', (yield* code.createAp(1, 2, At.vmsa))[0], 0);
    while ((yield* code.read(At.ready)) === 0n) yield { op: 'work', cost: 50 };

    // A report over a nonce, with the manifest of all services.
    const structure = At.area + 8;
    const bytes = new Uint8Array(SvsmAttestServices.size);
    SvsmAttestServices.write(new DataView(bytes.buffer), 0, {
      reportGpa: BigInt(At.report), reportSize: PAGE, nonceGpa: BigInt(At.nonce), nonceSize: 64, manifestGpa: BigInt(At.manifest), manifestSize: PAGE, certificateGpa: BigInt(At.certificates), certificateSize: 0x3000,
    });
    yield* code.fill(At.nonce, Uint8Array.from({ length: 64 }, (_, i) => i));
    yield* code.fill(structure, bytes);
    const attested = yield* code.svsm(AttestationCall.Services, { rcx: structure, rdx: -1n & 0xffff_ffff_ffff_ffffn, r8: -1n & 0xffff_ffff_ffff_ffffn });
    yield* must('attestation', attested.result, 0);
    yield* must('length of the report', attested.r8, 0x4a0);

    if (offers[2]) {
      yield* must('TPM_SEND_COMMAND', (yield* code.svsm(VtpmCall.Query)).rcx, 0x100);
      // TPM2_Startup, then TPM2_GetRandom of 8 bytes.
      for (const command of ['80010000000c000001440000', '80010000000c0000017b0008']) {
        yield* code.fill(At.tpm, `08000000000c000000${command}`);
        yield* must('TPM command', (yield* code.svsm(VtpmCall.Cmd, { rcx: At.tpm })).result, 0);
      }
      yield* must('bytes of the random response', yield* code.read(At.tpm, 4), 20);
    }
    yield* code.createAp(1, 2, At.vmsa, 2);
    yield* must('DELETE_VCPU', (yield* code.svsm(CoreCall.DeleteVcpu, { rcx: At.vmsa })).result, 0);
  },
};

/** The second processor: finds its calling area, and validates a page of its own. */
const second: GeneratorScript = {
  id: 'second',
  *main() {
    const code = new GuestCode(At.area1);
    yield* must('core protocol', (yield* code.svsm(CoreCall.QueryProtocol, { rcx: 1 })).rcx, 0x1_0000_0001n);
    yield* accept(code, pages(At.memory, 2));
    yield* code.write(At.ready, 1);
  },
};

export const scripts: readonly GeneratorScript[] = [kernel, second];
