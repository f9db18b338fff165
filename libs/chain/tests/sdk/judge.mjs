// The official SDK as a judge: one JSON request on standard input, one JSON answer on standard
// output. Keys are hex, messages text, signatures base64.
import { readFileSync } from 'node:fs'
import { BSM, PrivateKey, ProtoWallet, PublicKey, Signature, SignedMessage, Utils } from '@bsv/sdk'

const bytes = (text) => Utils.toArray(text, 'utf8')
const fromBase64 = (text) => Utils.toArray(text, 'base64')

const acts = {
  deriveChild: ({ key, counterparty, invoice }) => {
    const child = PrivateKey.fromHex(key).deriveChild(PublicKey.fromString(counterparty), invoice)
    return { privateKey: child.toHex().padStart(64, '0'), publicKey: child.toPublicKey().toString() }
  },
  signBsm: ({ key, message }) => BSM.sign(bytes(message), PrivateKey.fromHex(key)),
  verifyBsm: ({ signature, message, publicKey }) =>
    BSM.verify(bytes(message), Signature.fromCompact(signature, 'base64'), PublicKey.fromString(publicKey)),
  signBrc77: ({ key, message }) =>
    Utils.toBase64(SignedMessage.sign(bytes(message), PrivateKey.fromHex(key))),
  signBrc77For: ({ key, message, recipient }) =>
    Utils.toBase64(SignedMessage.sign(bytes(message), PrivateKey.fromHex(key), PublicKey.fromString(recipient))),
  verifyBrc77: ({ signature, message }) => SignedMessage.verify(bytes(message), fromBase64(signature)),
  signBrc100: async ({ key, message, protocolID, keyID, counterparty }) => {
    const wallet = new ProtoWallet(PrivateKey.fromHex(key))
    const signed = await wallet.createSignature({ data: bytes(message), protocolID, keyID, counterparty })
    return Utils.toBase64(signed.signature)
  },
  verifyBrc100: async ({ signature, message, protocolID, keyID, publicKey }) => {
    const request = { data: bytes(message), signature: fromBase64(signature), protocolID, keyID }
    const answer = await new ProtoWallet('anyone').verifySignature({ ...request, counterparty: publicKey })
    return answer.valid
  }
}

const answers = []
for (const { act, ...given } of JSON.parse(readFileSync(0, 'utf8'))) {
  try {
    answers.push({ result: await acts[act](given) })
  } catch (error) {
    answers.push({ error: error.message })
  }
}
process.stdout.write(JSON.stringify(answers))
