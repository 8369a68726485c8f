/*
 * A step for pipelines: runs a block while it holds a permit.
 *
 *     withPermit('FlexLM-Riviera', minutes: 90) {
 *         sh 'vsim -do compile.do'
 *         sh 'vsim -do run.do'
 *     }
 *
 * Copy it into a shared library as vars/withPermit.groovy. Options:
 *
 *   minutes      how long the block may take at most (60). It is stopped then; the lease is a minute longer, so the block does
 *                not run without its permit. If the agent dies, the permit comes back when the lease is over.
 *   waitTimeout  how long to wait for the permit at most ('24h')
 *   credentials  the id of the credential, a secret text, that is the token ('semaphore-token')
 *
 * Needed on the agent: semaphorectl, and SEMAPHORE_URL in its environment.
 */
def call(Map options = [:], String semaphore, Closure body) {
    int minutes = options.minutes ?: 60
    String waitTimeout = options.waitTimeout ?: '24h'
    String credentials = options.credentials ?: 'semaphore-token'
    // Of this call alone; kept over a restart of Jenkins, as all that is a text.
    String id = UUID.randomUUID().toString()

    // As variables, not in the text of a script: nothing has to be quoted.
    withEnv(["PERMIT_SEMAPHORE=${semaphore}", "PERMIT_ID=${id}", "PERMIT_TTL=${minutes + 1}m", "PERMIT_WAIT=${waitTimeout}"]) {
        try {
            withCredentials([string(credentialsId: credentials, variable: 'SEMAPHORE_TOKEN')]) {
                // At an abort the client gets SIGTERM, and leaves the queue by itself.
                sh(label: "wait for a permit of ${semaphore}",
                   script: 'semaphorectl acquire "$PERMIT_SEMAPHORE" --id "$PERMIT_ID" --ttl "$PERMIT_TTL" --wait-timeout "$PERMIT_WAIT"')
            }
            timeout(time: minutes, unit: 'MINUTES') {
                withEnv(["SEMAPHORE_CLAIM_ID=${id}"]) {
                    body()
                }
            }
        } finally {
            // After an abort, too. Its exit code is not the build's: what is not given back here ends with its lease.
            withCredentials([string(credentialsId: credentials, variable: 'SEMAPHORE_TOKEN')]) {
                sh(label: "give back the permit of ${semaphore}", returnStatus: true,
                   script: 'semaphorectl release "$PERMIT_ID"')
            }
        }
    }
}
